"""Feature tables: finding features, what they are made of, who uses them and what their values are like.

Nouns: a *feature table* is a Delta table with a primary key; a *feature* is one of its other columns; a *consumer* is a
training run, a model version or an endpoint that uses it; *statistics* tell of the values of one version of the table.
Invariants: this room keeps nothing but a cache: it puts together what the catalog, lineage and the online stores know;
what one may not see is neither named nor counted; statistics are read through the gateway as whoever asks, so that
they tell of no row or value that a filter or mask keeps back.
No outside protocol: `/api/millpond/features`. Read `domain.py`, then `service.py`.
"""
