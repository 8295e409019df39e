"""Notifications: messages that leave this server, by HTTP or e-mail, and the destinations that administrators name.

Nouns: a *destination* is an address outside under a name (`w.notification_destinations` of the SDK: e-mail, a webhook,
Slack); a *delivery* is one message on its way to a destination or to a mail address.
Invariants: an address and its password are sealed and never shown again; a delivery waits in the transaction of what
it tells of, and is tried until it is taken or its tries end; no request reaches what only this server can reach.
Read `domain.py`, then `outbox.py`; other rooms put messages there, and the registry's webhooks share `posting.py` and
`mail.py`.
"""
