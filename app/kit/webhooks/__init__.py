"""Webhooks: signing and verifying them, and an HTTP client that cannot be turned against others."""
