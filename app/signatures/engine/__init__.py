"""The signing engine: group commit, lanes, and the only statements that insert signatures, change their state or tally.

engine.py (queues) -> writer.py (lane, retry) -> insert.py, transitions.py (by key), chunks.py (by rule) -> tallies.py
"""
