"""Moderation: invalidations by rule, signatures on hold, retention, trends."""
