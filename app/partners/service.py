"""Inviting partner organizations, and what becomes of an invitation."""
