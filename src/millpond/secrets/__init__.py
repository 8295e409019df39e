"""Secrets: values that programs need and nobody should read in passing.

Nouns: a *scope* holds *secrets* under keys, and *ACLs* that give a user, service principal or group READ, WRITE or
MANAGE on all of it. Invariants: a value is encrypted before it reaches the database, under its scope's data key, which
is stored wrapped by a *master key* that is never in the database; a text elsewhere holds a secret only as its
reference, `{{secrets/SCOPE/KEY}}`. Outside protocol: the Databricks secrets API, `dbutils.secrets` included.
Read `domain.py`, then `envelope.py`, then `service.py`; `references.py` is what other rooms use.
"""
