"""What Amazon says: the order vocabulary, the error tree, the real connector and the simulator."""
