"""The tables of billing and all their SQL: `usage.py` what was used, `rules.py` prices, budgets and quotas."""
