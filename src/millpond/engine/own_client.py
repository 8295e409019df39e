"""How the gateway knows what the server beside it sends, and for which statement."""

OWN_CLIENT = "millpond sql"
"""The client type of this server's own SQL, which does not go on in a session that the gateway has lost."""

SPENT_MS = "x-millpond-spent-ms"
"""The trailer in which it is told what processor time a plan took."""

STATEMENT_TAG = "millpond-statement="
"""It says by this tag which statement of the query history it runs."""
