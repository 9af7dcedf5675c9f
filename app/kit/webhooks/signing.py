"""Standard Webhooks (standardwebhooks.com, version 1.0.0), symmetric: signing what goes out, verifying what comes in.

Signed is `{id}.{timestamp}.{body}` with HMAC-SHA256, the body as its bytes are sent. Whoever sends signs with several
keys while they rotate them; whoever receives holds every live key against every signature given.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
# Seconds by which the sender's clock may differ from ours: the specification's own advice.
TOLERANCE = 5 * 60
LONGEST_ID = 200

_ID = re.compile(rb"[\x21-\x7e]{1,%d}" % LONGEST_ID)
_TIMESTAMP = re.compile(rb"[0-9]{1,12}")
# Signatures are few: one for each key of a rotation. Each costs a comparison with every live key.
_MOST_SIGNATURES = 16
_SIGNATURE = re.compile(rb"v[0-9a-z]{1,8},[A-Za-z0-9+/=]{1,200}")
_NAMES = frozenset(name.encode() for name in (ID, TIMESTAMP, SIGNATURE))


class MalformedHeadersError(ValueError):
    """The headers are missing, doubled, or nothing that a library would write."""


class SignatureHeaders(NamedTuple):
    """What the headers of a webhook claim. `signatures` are those of version 1; `signed` stands before the body."""

    id: str
    timestamp: int
    signatures: Sequence[bytes]
    signed: bytes

    def is_timely(self, moment: float) -> bool:
        """Whether it was sent within five minutes of this moment, in seconds since 1970."""
        return abs(moment - self.timestamp) <= TOLERANCE


def sign(keys: Sequence[bytes], id_: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`, one signature for each key; `timestamp` in seconds since 1970."""
    signed = f"{id_}.{timestamp}.".encode()
    return " ".join(f"v1,{base64.b64encode(_digest(key, signed, body)).decode()}" for key in keys)


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> SignatureHeaders:
    """What these headers (names in lower case) claim; MalformedHeadersError."""
    found: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for name, value in headers:
        if name in _NAMES:
            found[name].append(value)
    id_, timestamp, signatures = (_only(found[name.encode()]) for name in (ID, TIMESTAMP, SIGNATURE))
    if not (_ID.fullmatch(id_) and _TIMESTAMP.fullmatch(timestamp)):
        raise MalformedHeadersError
    return SignatureHeaders(id_.decode("ascii"), int(timestamp), _signatures(signatures), b"%s.%s." % (id_, timestamp))


def _only(values: Sequence[bytes]) -> bytes:
    if len(values) != 1:
        raise MalformedHeadersError
    return values[0]


def _signatures(header: bytes) -> list[bytes]:
    given = header.split(b" ")
    if len(given) > _MOST_SIGNATURES or not all(map(_SIGNATURE.fullmatch, given)):
        raise MalformedHeadersError
    try:
        # Those of other versions, of asymmetric keys above all, are not for us.
        return [base64.b64decode(one[3:], validate=True) for one in given if one.startswith(b"v1,")]
    except binascii.Error:
        raise MalformedHeadersError from None


class BodyVerifier:
    """The digests of a body, one for each of these keys, made while it comes in."""

    def __init__(self, keys: Sequence[bytes], begins: bytes = b"") -> None:
        """`begins` is signed before the body."""
        self._made = [hmac.new(key, begins, hashlib.sha256) for key in keys]

    def update(self, part: bytes) -> None:
        """Go on with the body."""
        for made in self._made:
            made.update(part)

    def find_key(self, signatures: Sequence[bytes]) -> int | None:
        """Which of the keys has made one of these; None when none has. All are tried, in a time that tells nothing."""
        found = None
        for number, made in enumerate(self._made):
            expected = made.digest()
            for given in signatures:
                if hmac.compare_digest(expected, given):
                    found = number
        return found


def find_key(keys: Sequence[bytes], headers: SignatureHeaders, body: bytes) -> int | None:
    """Which of the keys has signed this body; None when none has."""
    verifier = BodyVerifier(keys, headers.signed)
    verifier.update(body)
    return verifier.find_key(headers.signatures)


def _digest(key: bytes, signed: bytes, body: bytes) -> bytes:
    # In two steps: joining them would copy a body of many mebibytes.
    made = hmac.new(key, signed, hashlib.sha256)
    made.update(body)
    return made.digest()
