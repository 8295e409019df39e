"""Models behind HTTP: endpoints, their configurations, and the processes that answer.

Nouns: an *endpoint* has a name, an owner and at most two *configurations*: the active one, which answers, and the
pending one, which is being brought up. A configuration holds *served entities* (a model version and how to run it) and
*routes* (which share of the traffic each gets). A served entity runs in a *pool* of *replicas*, each with a *worker*, a
confined child process; its version is a number or a *reference* (an alias, a stage) that the endpoint follows.
Invariants: traffic moves to a configuration only when all of its workers are ready; an update that fails leaves the
active configuration untouched; what is desired is in the database, so that a killed server comes back as it was; a
worker never sees a secret, another model's files or the database.
Outside protocol: the Databricks serving-endpoints API, and MLflow's scoring protocol on `.../invocations`.
Read `domain.py` (nouns, planner), `service.py`, `controller.py` and `pool.py` (what runs), `worker/` (the other side),
`canary/` (a version takes over in steps), `rehearsal.py` (a version is asked before it is served).
"""
