"""The `millpond` command: one file for each group of commands; `main.py` imports them only when they are called."""
