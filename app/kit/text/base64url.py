"""Base64url without padding (RFC 4648, section 5): how tokens, receipts and cursors are written in links."""

import base64


def encode(plain: bytes) -> str:
    """The bytes as text that needs no escaping in a URL: four characters for three bytes."""
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes that such a text stands for; ValueError when it is none. Padding is accepted where it belongs."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
