"""Idle and waste: what is kept up or stored, and used by nobody. Nothing is kept here; `service.py` is the room."""
