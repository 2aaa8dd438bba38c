"""The Amazon connector: Orders API 2026-01-01 through python-amazon-sp-api."""
