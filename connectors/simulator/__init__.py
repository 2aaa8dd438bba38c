"""A rude and faithful Selling Partner API, the project's only fake."""
