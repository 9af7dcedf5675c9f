"""Webhook endpoints: where partners hear from us, and the messages that went there."""
