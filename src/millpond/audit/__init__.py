"""The audit: who did what, when, from where, with what result, from every door; chained, so that tampering shows.

Nouns: an *entry* is an event (`journal`) under the names that Databricks gives to services and actions; the *chain*
numbers entries and binds each to the one before by its hash; the *drain* moves events from outbox and spools into the
chain. Invariants: each event is in the chain once; the database is the truth, `system.access.audit` is a copy of it.
Outside protocols: the columns and action names of Databricks' `system.access.audit`. Read `domain.py`, then `chain.py`,
`drain.py`; `door.py` writes down the requests of the HTTP API.
"""
