"""The JSON of identity's protocols: `scim` with `patches`, and `tokens` (access tokens and OAuth secrets)."""
