"""Sealing personal data, keyed digests, and the rotation of the keys."""
