"""Online stores: the newest row of each key of a feature table, to be read within microseconds.

Tables of ours: online stores and what is published into them. An online store is embedded (LMDB files that many
processes read), Redis or PostgreSQL; all three keep the contract of `backends.port`. Outside protocol: the Databricks
feature store API (`w.feature_store`).
"""
