"""What became of registered models: who moved which version where and why, what had to be shown before, who is told.

Nouns: an *activity* is one thing done to a model or version: a move between stages, an alias set or removed, a request,
a comment; the moves among them are the *history*. A *target* is an alias or a stage. A *request* asks somebody with
more rights to move a version to a target. A *policy* of a model, schema or catalog guards targets with *checks*; a
*gate run* is one look at a version by a policy, with its *findings*. A *webhook* is told of events by *deliveries*.
Invariants: a move and its record are one transaction, whichever client moves; a version passes a guarded target only
with findings that all pass, or by an administrator who gives a reason; deliveries wait in the transaction of the event.
Outside protocols: the comments, transition requests and webhooks of Databricks' workspace model registry, and MLflow's
webhooks. Read `domain.py`, then `recorder.py` (what happens in MLflow's transactions), `service.py`, `gates.py`.
"""
