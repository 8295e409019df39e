"""Features by keys, as a model or an application asks for them now: what a training set does, over online tables.

Nouns: a *feature spec* (`millpond.features.spec`) says what is looked up and computed; a *recipe* is a spec with what
the catalog says of its tables and functions; rows of a request are *completed* by it.
Invariants: a row gets what `docs/features.md` promises a label, but for time: an online table has the newest values of
each key. All is read with the rights of one principal, checked at each request. Nothing of users' code runs here:
functions are called through what the caller gives.
Read `recipe.py`, then `service.py`.
"""
