"""Webhooks that go out: outbox messages are fanned out to endpoints, rendered when they are sent, and delivered.

`message_types/` says what can be told and to whom, `endpoints/` where, `delivery/` delivers, and `feed/` numbers the
consents that are told of, so that partners can also pull them page by page.
"""
