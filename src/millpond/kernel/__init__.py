"""What every room stands on, and what knows no room: errors, settings, database, migrations, processes, HTTP edges.

Read `errors.py` and `database.py` first.
"""
