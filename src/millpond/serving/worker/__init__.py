"""The other side of the socket: a child process that holds one model, or none, and answers for it.

It may run in an environment of its own, so it imports the standard library, `mlflow` with what it needs, `packaging`,
`millpond.serving.frames` and `.columns`, and of ours nothing else that imports more.
Read `__main__.py`, then `scoring.py`.
"""
