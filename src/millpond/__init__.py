"""Millpond: the open, self-hosted lakehouse platform for machine learning.

One server, one catalog, one identity; unmodified mlflow, PySpark and databricks-sdk clients reach the same objects.
Start reading at `app.py` (what is joined to what) and `kernel/` (what every room stands on).
"""

__version__ = "0.1.0"
