"""The toolbox: what every room is built with. It imports no room, and knows no petition, signature or partner.

A few things are this service's own: the names of its metrics and settings, the description of its API, and the
interface by which rooms plug in (`rooms.py`).

Invariants kept here: only `database/session.py` commits; only `settings.py` reads settings from the environment; only
`clock.py` tells the time; every error leaves as problem+json; nothing personal is logged or echoed.
"""
