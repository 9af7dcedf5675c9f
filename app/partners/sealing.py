"""Associated data of this room's sealed values: the table, column and row that each is bound to."""

from uuid import UUID


def secrets_identity(id_: UUID) -> bytes:
    """Of a secret by which an organization signs what it posts."""
    return b"webhook_secrets.sealed" + id_.bytes


def answers_identity(id_: UUID) -> bytes:
    """Of the answer that a webhook was given when it came in."""
    return b"received_webhooks.answer" + id_.bytes


def endpoints_identity(id_: UUID) -> bytes:
    """Of an endpoint's address, its secrets and whom to write to."""
    return b"webhook_endpoints.sealed" + id_.bytes


def attempts_identity(id_: UUID) -> bytes:
    """Of the first bytes that came back from an attempt to deliver."""
    return b"delivery_attempts.answer" + id_.bytes
