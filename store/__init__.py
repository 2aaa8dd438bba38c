"""The database: orders, customers, progress and budgets, on SQLite and PostgreSQL."""
