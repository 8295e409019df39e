"""Recorded traffic answered by another version, before any user sees it: how differently does it answer?

Nouns: a *replay* takes the newest requests of an endpoint's inference table and gives them to a *candidate*, a version
of a model in a process of its own; its *report* says how the candidate's answers differ from those that were given.
Invariants: the candidate's answers go nowhere but into counts; who asks may manage the endpoint and read the whole
table, without filters and masks, at the beginning and while it runs; memory holds a page of requests, whatever N is; a
replay that a killed server had begun is begun again, and its result belongs to the model's version, where a gate
(`registry.traffic_replay`) finds it.
Read `domain.py`, `comparing.py` (what differs), `running.py`, `service.py`.
"""
