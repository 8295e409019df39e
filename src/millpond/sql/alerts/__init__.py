"""Alerts: queries that are asked again and again, a condition on their results, and whom to tell.

Nouns: an *alert* is a question (a saved query or a text) with a condition, perhaps a schedule, and those who are told;
an *evaluation* is one asking, with the value that was found and the state that follows from it.
Invariants: an alert asks as whoever it runs as, and whoever changes what it asks or whom it tells makes it run as
themselves; an evaluation counts once, in one transaction with the messages that follow from it, however often it is
asked; of one alert, one evaluation is under way.
Outside protocol: the Databricks APIs of alerts: `w.alerts`, `w.alerts_v2` and `w.alerts_legacy`.
Read `domain.py`, then `conditions.py` (what a result means), `evaluating.py` (asking) and `service.py`.
"""
