"""The tables of SQL and all their statements, one module for each noun."""
