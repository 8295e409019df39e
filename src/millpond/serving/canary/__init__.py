"""A new version takes over an endpoint's traffic in steps, as long as it does no worse than the one that answers now.

Nouns: a *canary* names the served entity that takes over and its *baseline*, the one that has the traffic; its *steps*
are shares of the traffic; *guardrails* say how much worse it may be. A *verdict* is what a look at all that decides.
Invariants: a step is a configuration of the endpoint, written in one transaction with the canary's state and with what
was counted until then, under the endpoint's lock: a killed server goes on where it was, and of two servers one steps;
whoever changes the configuration meanwhile ends the canary and keeps what they made.
Read `domain.py` (nouns, `decide`), then `rounds.py` (what acts on it), `service.py`.
"""
