"""Signatures: a mass of them, counted exactly, at any rate.

A signature is one person under one petition. Only `engine/` inserts signatures, changes their state, or writes tallies;
it does all of it inside one transaction, which commits before anybody is answered. So at every commit each dimension of
the tallies sums to the total, and the total is the number of confirmed signatures. Sweeps (`background/`) and key
rotation change other columns only: which mail is due, whether consents wait, what is sealed.

    routes.sign -> service.sign -> signing/prepare (digest, seal) -> engine.submit -> one batch, one commit -> answer

Folders: `signing/` (body to row), `engine/` (rows, tallies), `reading/` (counts, breakdowns, streams, recount),
`moderation/` (invalidations, on hold, retention, trends), `background/` (the worker's part), `me/` (a person's own).

Invariants: no answer before the commit. The key `(petition_id, signer)` alone decides who has signed. Only one
connection at a time writes a lane's rows (`engine/lanes.py`). Nothing personal is stored outside `sealed`. A stranger
cannot tell a first signing from a second. Locks are taken in this order: the row that says what is to be done (an
invalidation or, for release and retention, the petition), signatures in the order of their key, tallies in the order of
theirs. Signing locks no petition.
"""
