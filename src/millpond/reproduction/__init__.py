"""Reproduction: what a run was made of, and whether it comes out the same again.

Nouns: a *capture* is what a client's plugin sent of a process whose runs go here (`sdk/plugin.py`); a *reproduction*
is one attempt to make a run again as a new one; its *verdict* says for each metric, param and artifact whether it is
bit-identical, within tolerance, or different. What was not captured is named, never guessed.
Invariants: the second run's code sees tables at the versions that the first read, writes runs only, and never runs in
a server process. The engine is a client of the API, the same on a user's machine and in the server's child process.
Read `domain.py`, then `engine.py`, then `service.py`.
"""
