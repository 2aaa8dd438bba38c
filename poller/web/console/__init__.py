"""The console: pages for people, on the functions that the command line and the HTTP API use."""
