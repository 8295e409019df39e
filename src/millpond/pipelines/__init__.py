"""Declarative pipelines: datasets that sources define, brought up to date by updates, as the SDK's `w.pipelines` drives
them.

Nouns: a *pipeline* is settings under an id; an *update* is one go through its datasets; an *event* says what an update,
or somebody, did.
Invariants: a pipeline has at most one active update; an update is a run of the room of jobs, as whoever the pipeline
runs as, and how it ends is written in the transaction in which that run does; events of a pipeline are numbered without
gaps in the order in which they came.
Read `domain.py`, then `service.py`, then `updates.py`.
"""
