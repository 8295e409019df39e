"""Workers: processes on other machines that take tasks from a server and run them, over HTTP.

Nouns: a *worker* is a directory on some machine with slots for tasks; a *part* is some bytes of what a task there has
printed or left. Invariants: a worker has no password of the database and no credential but its own, which is good for
the paths of workers alone; what it says of a task counts while it holds the task's lease; the server has written that a
task's code begins before it does.
Read `domain.py`, then `service.py` for the server's side and `process.py` for the worker's.
"""
