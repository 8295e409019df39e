"""Inference tables: each request to an endpoint and its answer, once, in a governed Delta table.

Nouns: an *inference table* belongs to an endpoint: `PREFIX_payload` with a row for each request,
`PREFIX_payload_labels` with what turned out to be true, and two views over them. The *payload log* is a directory of
*segments*, files to which a request only appends; the *committer* puts whole segments into Delta and deletes them.
Invariants: what was answered is in a segment before; a segment's name is a transaction of the Delta commit that holds
its rows, so that it lands once, whoever is killed when; what cannot be kept is not answered, unless settings say so.
Outside protocol: `auto_capture_config` of the Databricks serving-endpoints API, and the columns of its tables.
Read `domain.py` (columns), `segments.py` and `payload_log.py` (the way in), `committer.py` (the way out), `service.py`.
"""
