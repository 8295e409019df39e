"""The catalog's tables and all their SQL, one module for each noun; private to this room."""
