"""Web pages: a client of the services, with the rights of whoever is signed in and no more.

Nouns: a *page* has an address, loads what it shows in a thread and draws it; a *visit* is one opening of a page by one
person. Invariants: the address is the state (page, tab, filter); names and texts of users are text, never markup; each
act of an open page proves the session anew. No request leaves for another host.
Read `visit.py`, then `shell.py`, then one of `pages/`. How it looks is in `theme.py` and `static/millpond.css`.
"""
