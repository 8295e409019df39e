"""Clusters: slices of this machine's cores and memory in which users' code runs, under policies.

A *cluster* is a row that says what is wanted, and a *driver*, the process from which all that runs on it is forked; it
is RUNNING only while that answers. A *context* is an interpreter of one user on a cluster, a *command* a cell that it
runs. A *policy* limits what clusters may be; an *instance pool* keeps drivers warm. Speaks the Clusters API 2.1, the
Command Execution API 1.2, and the APIs of cluster policies, instance pools and libraries. States in rows are orders
too: the server that owns a cluster carries them out (`runtime.py`). Read `domain.py` first; `policy_rules.py` and
`machine.py` decide, and are pure.
"""
