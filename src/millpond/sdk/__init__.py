"""What users' programs import, without the server: standard library and what their own client brings along.

`plugin.py` is a plugin of MLflow's client that captures what a run was made of. Read it first.
"""
