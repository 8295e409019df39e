"""The engine room: Spark Connect for users, with the catalog's names and rights, before an engine that knows neither.

Nouns: sessions (`sessions.py`), plans that are bound to places (`planning.py`, `binding.py`), engine processes, one for
each user (`engines.py`), writes, views, and commands. Commands are SQL that the engine lacks: `statements.py` reads
them (`syntax/`), `commands/` carries them out, `delta/` is what they do to tables, `types.py` converts types and
columns. `streaming/` carries what is added to tables on to others, batch after batch.
Protocols: Spark Connect (gRPC) to both sides; Delta Lake on storage.

Invariants: what the gateway does not know it refuses; a name is resolved and checked before the engine sees a place;
the Delta log is the truth of a table's columns, the catalog follows it. Errors are Spark's (`errors.py`).
Read `gateway.py` first, then `planning.py`.
"""
