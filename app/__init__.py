"""Multitude: the backend of a movement. `docs/architecture.md` is the way in."""
