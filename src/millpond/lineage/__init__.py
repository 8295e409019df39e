"""Lineage: which data came from which, to the column, who made it so, and what depends on what.

Nouns: a *node* is a table, files, a run, a model version, an endpoint or something outside; an *observation* is one
act in which data flowed; an *edge* is what observations of the same two nodes come to, an *event* is each of them. Each
says how it is known: observed (the gateway did it), parsed (a definition says so) or declared (a client says so).
Invariants: tables are known by their ids, so edges survive renames; an observation counts once, however often it is
told; nothing is removed with time; nobody sees a node, or an edge to it, whose object they may not see.
Outside protocols: Databricks' lineage tracking and external lineage APIs, `system.access.*_lineage`, OpenLineage.
Read `domain.py`, then `service.py`.
"""
