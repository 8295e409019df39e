"""The tables of identity and all their SQL: `accounts` (users, service principals, groups), `groups`, `tokens`, and
`grants`."""
