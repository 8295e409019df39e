"""The tables of identity and all their SQL: `accounts` (groups among them), `groups`, `tokens`, `logins`, `grants`."""
