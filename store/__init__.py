"""What we keep: orders, customers, progress and budgets, on SQLite and PostgreSQL."""
