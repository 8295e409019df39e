"""How the gateway knows what the server beside it sends, and for which statement."""

OWN_CLIENT = "millpond sql"
"""The client type of this server's own SQL, which does not go on in a session that the gateway has lost."""

STATEMENT_TAG = "millpond-statement="
"""It says by this tag which statement of the query history it runs."""
