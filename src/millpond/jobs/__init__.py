"""Jobs: tasks that depend on each other, run when asked for or by the clock, as the SDK's `w.jobs` drives them.

Nouns: a *job* is settings under a number; a *run* is one go through a job's tasks, or through tasks that were submitted
once; a *task run* is one attempt at one task, or at one iteration of a `for_each_task`.
Invariants: what happens next is decided by pure functions from rows alone, under a lock on the run; a task's process
holds a lease on its row, and only who holds it may write how it ended; an attempt's code begins at most once; user code
runs in confined child processes, as the job's `run_as`.
Read `domain.py`, then `planning.py`, then `advancing.py` and `runtime.py`.
"""
