"""Bundles: jobs, endpoints, models, schemas and volumes as files in git, deployed to targets over HTTP.

Nouns: a *bundle* is a directory with `databricks.yml`; a *target* (dev, staging, prod) is where and how it is deployed;
a *resource* is one thing that it declares. Speaks a subset of the YAML of Databricks Asset Bundles, and the server's
HTTP. Invariants: what is not of the subset is refused by name; a plan is made by pure functions of what is declared and
what was deployed; that is written beside the bundle's files, in a volume, before and after each step, so that a
deployment that broke off is taken up by the next.
Read `reading.py`, then `planning.py`, then `deploying.py`.
"""
