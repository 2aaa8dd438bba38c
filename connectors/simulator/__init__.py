"""A rude and faithful Selling Partner API: the only fake in the project."""
