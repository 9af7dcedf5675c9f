"""Consents: the append-only ledger, the texts consented to, and unsubscribing."""
