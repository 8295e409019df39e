"""Cost and quota: what everything used, what that costs, who is told, and what is refused.

A *usage record* is so much of one SKU in one hour, by one user, for one object with its tags; its quantity grows while
the hour lasts. A *price* is of a SKU from an hour on. A *budget* tells somebody when what it covers has cost so much;
a *quota* refuses more. Speaks the Budgets API of accounts, `system.billing.usage` and `system.billing.list_prices`.
Rooms above tell what was used: with `store.usage.add` in the transaction of what used it, or through a `Meter`, which
looks at processes. Read `domain.py` first.
"""
