"""Data rights: what is kept of a person in all rooms, exported, erased and forgotten in time."""
