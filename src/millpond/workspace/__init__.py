"""The workspace: a tree of directories, notebooks and files, as the SDK's `w.workspace` drives it.

Nouns: an *object* is a directory, a notebook or a file at a path; a *notebook* is source code in cells, kept in the
format in which it came and given in any. Invariants: what an object holds is written in the transaction that names it,
so that there is no half of either; who owns an object owns all below it; `/Users/NAME` is that user's own, `/Shared` is
seen by all. `/Workspace/...` is another spelling of `/...`.
Read `domain.py`, then `notebooks.py` and `service.py`.
"""
