"""The hot room: a mass of signatures, counted exactly, at any rate.

A signature is one person under one petition. `insert.py` is the only code that writes signatures, `tallies.py` the
only code that writes tallies; both act inside one transaction, which commits before anybody is told. So at every
commit each dimension of the tallies sums to the total, and the total is the number of confirmed signatures.

    routes.sign -> signing.py (validate, digest, seal) -> intake.add -> one batch, one commit -> answer

Invariants: no answer before the commit; the key `(petition_id, signer)` alone decides who has signed; a lane's rows
are written by one process at a time (`lanes.py`); locks are taken in the order petition, signer, tally; nothing
personal is stored outside `sealed`; a stranger cannot tell a first signing from a second.
"""
