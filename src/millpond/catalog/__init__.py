"""The catalog: catalogs, schemas, and the tables, volumes, functions and models in them, with the files behind them.

Invariants: names are three levels, without regard to case, unique per kind in their schema; storage paths hold ids and
never names, so that a rename moves nothing; the Delta log is the truth about a table's columns and the rows here
follow it; nothing becomes visible before it is whole. Speaks the Unity Catalog REST API and the Databricks Files API.
Read `domain.py` first, then `service/`.
"""
