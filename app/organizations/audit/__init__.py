"""The audit log: who did what, and who was shown names. It is only ever appended to, and each entry holds the digest of
the one before.

A route says what it is by `audited` (`declaration.py`), and its entry is written in the route's own transaction: there
is no act without its entry, and no entry of an act that was rolled back.
"""
