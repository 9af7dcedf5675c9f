"""Acts that cannot be undone wait: for a day, in which every owner can cancel them, or for a second person's word.

A room asks (`service.ask`) instead of acting, and answers 202 (`responses.waits`). What it then does is declared in its
`room.py` by verb, and is done by whoever confirms, or by the worker when the day is over.
"""
