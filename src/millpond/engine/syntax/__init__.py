"""SQL commands as text: a token cursor (`cursor.py`), the commands as data (`model.py`), and one grammar file per noun.

Queries are the engine's; this package reads only statements that the engine lacks or that concern the catalog.
Entry point: `millpond.engine.statements.parse_command`.
"""
