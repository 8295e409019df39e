"""SQL over HTTP: warehouses, statements and their results, saved queries, and the history of what ran.

Nouns: a *warehouse* is a named pool with limits, in which *statements* wait and run; a *session* keeps names, settings
and temporary views between statements; a *result* is cut into chunks, kept on disk for an hour; a *saved query* is
text with a name; the *history* is the statements that were.
Invariants: a statement runs as whoever sent it, through the Spark Connect gateway, which knows names and rights; its
id, result and links are its owner's and administrators'; each statement ends in a final state, also when the server
is killed; results never take more disk than they may.
Outside protocol: the Databricks APIs of SQL warehouses, statement execution, queries and query history.
Read `domain.py`, then `statements.py` (what one can ask), `runtime.py` (what runs), `results.py` (what is kept).
"""
