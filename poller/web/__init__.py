"""The HTTP API of the running service. It decides nothing: it calls what the command line calls."""
