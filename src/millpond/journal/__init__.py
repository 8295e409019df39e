"""What was done and what was refused, written down where it happens, before whoever did it is answered.

Nouns: an *event* is one act of one actor; a *call* is what one client asks of one door, from where and as whom; the
*outbox* is a table that a change writes into in its own transaction; a *spool* is the file of one process for all that
changes no row of ours. Both only wait here: the room `audit` chains them. Invariants: an event that was acknowledged
survives `kill -9`; no secret gets in (`mask_secrets` goes over every line).
Knows no principal and no protocol. Read `domain.py`, then `calls.py`.
"""
