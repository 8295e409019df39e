"""What users' programs import, without the server: standard library and what their own client brings along.

`plugin.py` is a plugin of MLflow's client that captures what a run was made of. Read it first. Here are the words in
which it and the server speak of captures.
"""

CAPTURE_TAG = "millpond.capture"
REPRODUCES_TAG = "millpond.reproduces"
REPRODUCTION_TAG = "millpond.reproduction"
PROCESS_WORD = "millpond-process/"
"""In a Spark session's user agent: the process that captures its runs."""
READS_OF_WORD = "millpond-reads-of/"
"""There too: the process whose reads are repeated."""
