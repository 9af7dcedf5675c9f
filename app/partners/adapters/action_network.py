"""Adapter for Action Network's webhook: an array of what happened on its pages, each with an `idempotency_key`.

It signs nothing and lets no header be set, so the address it posts to holds a token. It sends again for an hour what
was not answered in time, and `modified_date` may have moved by then: the keys alone say whether it is the same.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence

from app.partners.adapters.osdi import signatures
from app.partners.adapters.parsing import read_array
from app.partners.adapters.translation import Context, as_text
from app.partners.inbound.items import Item, ItemTooLarge, NoSignature, is_too_large

_SIGNATURE = "osdi:signature"
_MISSING = {"at": _SIGNATURE, "message": "Field required"}


def opened_by(token: str, secrets: Sequence[str]) -> int | None:
    """Which of the secrets this token is; None when it is none. All are compared, each in constant time."""
    given, found = _digest(token), None
    for number, secret in enumerate(secrets):
        if hmac.compare_digest(_digest(secret), given):
            found = number
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def keys_of(body: bytes) -> bytes:
    """The idempotency key of this webhook: the keys of its items, in order; of one without a key, a digest of its text.

    Goes through the whole body: what `parsing.read_array` raises about it is raised here.
    """
    keys = [_key_of(item) or [hashlib.sha256(written).hexdigest()] for item, written in read_array(body)]
    return json.dumps(keys).encode()


def read_items(context: Context, body: bytes) -> Iterator[Item]:
    """What the body brings, in order."""
    return (_read(context, item, written) for item, written in read_array(body))


def _read(context: Context, item: object, written: bytes) -> Item:
    if item is None and is_too_large(written):
        return ItemTooLarge()
    if not isinstance(item, dict) or not isinstance(item.get(_SIGNATURE), dict):
        return NoSignature([_MISSING])
    return signatures.read(context, item[_SIGNATURE], _key_of(item))


def _key_of(item: object) -> str | None:
    key = as_text(item.get("idempotency_key")) if isinstance(item, dict) else None
    return key if isinstance(key, str) and key else None
