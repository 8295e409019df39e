"""The JSON of identity's protocols: `scim` with `patches`, `tokens` (access tokens and OAuth secrets), `permissions`,
and `access`, which `sentences` turns into words.
"""
