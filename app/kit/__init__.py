"""Tools that know nothing of the movement: they would serve a library's loans just as well.

Invariants kept here: only `session.py` commits; only `settings.py` reads the environment; only `clock.py` tells the
time; every error leaves as problem+json; nothing personal is logged or echoed.
"""
