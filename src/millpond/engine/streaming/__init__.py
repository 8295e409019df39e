"""Structured Streaming: queries that carry what is added to Delta tables on to others, a micro-batch at a time.

The engine knows no stream, so the gateway is the driver. A query's plan is kept as its client sent it, with absolute
names. For each batch, every streaming read in it becomes a read of the files that were added to its table, and the plan
is bound and carried out as any other: grants, row filters, masks, lineage and audit hold for each batch, as of then.

Nouns: sources (`source.py`, which reads a table's log by `log.py`) and offsets in them (`offsets.py`), the checkpoint
that remembers both (`checkpoint.py`), sinks (`sinks.py`), a query that runs (`query.py`), all of a gateway's
(`queries.py`).
Invariants, whatever line a process dies at: what a batch reads is in the checkpoint before it runs; a table has a batch
once, as the batch's number is part of the very commit; a batch begins when the one before it is in the table.
Read `query.py` first.
"""
