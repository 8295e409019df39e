"""Whether a model is given in serving what it was given in training: keys are replayed through both paths.

Nouns: a *replay* (`registry.checks.Replay`) says which keys, how many and what may differ; its *subject* is a version
of a model, or a feature spec of the catalog; a *report* is what one replay found, feature by feature.
Invariants: the online side is the very code that serving runs (`feature_serving`), the offline side the point-in-time
join of training (`millpond.features`) over the version of each table that is online; so what differs is skew, and what
is only not published yet is lag, which is told by itself. All is read with the rights of who asks, and whoever may
not read the tables of a report sees its counts and none of its values.
Read `domain.py`, then `replaying.py`, then `service.py`.
"""
