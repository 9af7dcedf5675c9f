"""Devices on which somebody has signed in before: a token tells them, so that strangers cannot use up their share.

Anybody can ask for somebody's links. What they use up by that is theirs alone: a device on which the person has signed
in before has limits and mails of its own (`sign_ins.py`, `mailing.py`). The token is sealed under the ring: it is
stored nowhere here, says nothing to whoever finds it, and opens nothing.
"""

import hmac
from datetime import timedelta

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.people.sealing import Device, read_device_token, write_device_token

LIFETIME = timedelta(days=180)


def new_token(ring: KeyRing, signer: bytes) -> str:
    """The token for a device on which this person has just signed in, good for half a year."""
    return write_device_token(ring, Device(signer, now()))


def is_known(ring: KeyRing, token: str | None, signer: bytes) -> bool:
    """Whether this very person has signed in on the device that shows this token."""
    try:
        device = read_device_token(ring, token or "")
    except SealBrokenError:
        return False
    return hmac.compare_digest(device.signer, signer) and now() < device.signed_in_at + LIFETIME
