"""Declarative pipelines: the tables that sources declare are made and kept up to date. It runs in a task's process.

Sources are Python (`from pyspark import pipelines as dp`, `import dlt`), SQL and notebooks, unmodified. All is done
through a Spark session and the server's API as the user. Unlike the rest of the sdk it uses the engine's grammar and
checks (`queries`, `syntax`, `streaming.plans`), as an update always runs where the server's packages are.

A **dataset** is a streaming table, a materialized view or a temporary view; a **flow** is a query that goes into one.
An **update** evaluates all flows against empty tables of the right columns (`graph.py`), so that what is wrong is said
before anything is written, and then carries them out in order (`update.py`). Read `domain.py` first, then `run.py`.
"""
