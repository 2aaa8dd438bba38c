"""The HTTP API of the running service. It decides nothing: it calls the functions of the command line."""
