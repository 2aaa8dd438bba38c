"""The trunk: the only package that knows config, connectors and store."""
