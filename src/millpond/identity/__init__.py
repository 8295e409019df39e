"""Who is asking, and may they: users, service principals, groups, tokens, sessions, and the one permission rule.

Nouns: a *principal* (user or service principal) holds *credentials* (personal access tokens, a password, client
secrets), belongs to *groups* and opens *sessions*. Invariants: a credential is stored only as a hash; a deleted or
inactive principal's credentials stop at once; names are unique without regard to case.
Outside protocols: SCIM 2.0, the Databricks token API, OAuth 2.0 client credentials. Read `domain.py`, then
`access.py`, then `service.py`.
"""
