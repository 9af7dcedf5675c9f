"""Webhooks that come in: verified, read, counted once however often they are sent, and answered item by item.

The walk of one item, from the request to the tally. Each module hands on to the next and is not come back to:

1. `routes.py`: a request for a partner.
2. `verification.py`: the partner has signed this body, just now.
3. `idempotency.py`: this webhook has not been answered before, and nobody else works on it.
4. `items.py`: the body is split, and each part read as a signature.
5. `acceptance.py`: the terms of the partnership allow it; `signatures/signing/prepare.py` seals it.
6. `ingest.py`: once all items are prepared, they are brought in large parts.
7. `signatures/engine/bulk.py`: a part is one transaction.
8. `signatures/engine/insert.py`: the rows, and what they change in the tallies (`signatures/engine/tallies.py`).

So from the body (4) to the tally seven modules are entered. On the way back `ingest.py` writes the results, and
`idempotency.py` records the answer before it is sent. `fair_share.py` is asked now and then whether to leave the event
loop to others; `services.py` holds what all of this needs, one of each per process.
"""
