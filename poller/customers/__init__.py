"""Customers as people work with them: create, edit, import, merge, find duplicates."""
