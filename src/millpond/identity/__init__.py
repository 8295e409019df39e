"""Who is asking, and may they: users, service principals, groups, tokens, sessions, and the one permission rule.

Nouns: a *principal* (user or service principal) holds *credentials* (personal access tokens, a password, client
secrets), belongs to *groups*, opens *sessions* and has *grants* (privileges on securables of every room). Invariants: a
credential is stored only as a hash; the credentials of a deleted or inactive principal stop at once, and so does all
that was got with a revoked one; names are unique among users, service principals and groups without regard to case; an
administrator is who belongs to `admins`, and there is always one; a grant or its revocation counts from the next
request on. Outside protocols: SCIM 2.0, the Databricks token and permissions APIs, OAuth 2.0 client credentials.
Read `domain.py`, `privileges.py` and `access.py`, then `service.py` and `grants.py`; `middleware.py` is the door.
"""
