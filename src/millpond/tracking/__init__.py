"""Experiments, runs and registered models: the real MLflow, embedded behind our sign-in and our permission rule.

Nouns: *experiments* hold *runs*, logged models and traces; *registered models* have numbered versions, aliases and
stages. A model named `catalog.schema.name` is an object of the catalog; other names belong to the workspace registry.
Invariants: a run carries the signed-in user whatever the client claims; nobody reaches another's experiment or model
by any route; MLflow's row of a three-level model and the catalog's row are written in one transaction; what is not
known to be safe is refused.
Outside protocols: MLflow REST 2.0 and 3.0 (`embed.py`), its artifact proxy (`artifacts.py`), the Unity Catalog model
API (`routes.py`). Read `domain.py`, then `stores/`, then `embed.py`.
"""
