"""The database's history, by Alembic; run at start under an advisory lock."""
