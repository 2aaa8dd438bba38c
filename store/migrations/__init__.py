"""The schema's history (Alembic), one for both databases."""
