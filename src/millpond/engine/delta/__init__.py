"""Delta tables at a storage location, through delta-rs: what Sail lacks, without a name, a catalog or a permission.

`table.py` opens tables, refuses what we cannot keep correct, and commits so that an error never hides a success;
`schema.py` plans schema changes as pure functions; `log.py` and `rewrite.py` carry such plans out;
`maintain.py` is OPTIMIZE, VACUUM and RESTORE; `describe.py` is history and detail.

Invariants: tables stay on protocol reader 1, writer at most 4 (timestamp_ntz excepted, which needs 3 and 7); each
commit carries its author and a mark of its own; a rewrite never merges with a concurrent commit, it starts again.
"""
