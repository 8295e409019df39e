"""Where the columns of a plan come from: what the gateway notes on a query's way, and what is made of it afterwards.

`capture.py` writes down, in microseconds, what a write or view was made of; it runs in the gateway. All else runs
later, elsewhere: `reading.py` turns a note into an observation for the room `lineage`, `plans.py` walks the Spark
Connect plan and `text.py` the SQL in it; both speak of `columns.py`.

Invariants: tables are always told, columns where they can be known; a column edge that is told is right. What the walk
does not know (a Python function over whole rows) makes columns inexact, never wrong.
"""
