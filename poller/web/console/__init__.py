"""The console: pages for people, on the functions of the command line and the HTTP API."""
