"""The order vocabulary, the error tree, the Amazon connector and the simulator."""
