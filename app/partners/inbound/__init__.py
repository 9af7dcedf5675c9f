"""Webhooks that come in: verified, read, counted once however often they are sent, and answered item by item.

A request for a partner (`routes.py`) is verified (`verification.py`: the partner has signed this body, just now) and
claimed (`idempotency.py`: it has not been answered before, and nobody else works on it). From there one item of the
body goes to the tally, in the order in which the data flows (`ingest.py` pulls the items through the first three, one
by one; small tools aside):

1. `items.py`: the body is split, and each part read as a signature.
2. `acceptance.py`: the terms of the partnership allow it.
3. `signatures/signing/prepare.py`: digested and sealed, with an id made from the webhook's.
4. `ingest.py`: once all items are prepared, they are submitted in large parts.
5. `signatures/engine/bulk.py`: each part is one transaction.
6. `signatures/engine/writer.py`: on a lane of its own.
7. `signatures/engine/insert.py`: the rows are inserted.
8. `signatures/engine/tallies.py`: what they change is added to the tallies.

On the way back `ingest.py` writes one result per item, and `idempotency.py` records the answer before it is sent.
`fair_share.py` is asked now and then whether to leave the event loop to others. `services.py` holds what all of this
needs, one of each per process.
"""
