"""The other side of the socket: a child process that holds one model and answers for it.

It may run in an environment of its own, so it imports the standard library, `mlflow`, `packaging` and
`millpond.serving.frames`, and nothing else of ours. Read `__main__.py`, then `scoring.py`.
"""
