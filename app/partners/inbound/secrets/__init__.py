"""Webhook secrets: what partners sign with; several live at once, so that they can be rotated."""
