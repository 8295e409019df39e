"""Alembic asks for this file; migrations run from `ensure_schema`, which configures the environment itself."""
