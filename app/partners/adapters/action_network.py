"""Action Network's webhook: an array of what happened on its pages, each with an `idempotency_key`.

It signs nothing and lets no header be set, so the address it posts to holds a token. It sends again for an hour what
was not answered in time, and `modified_date` may have moved by then: the keys alone say whether it is the same.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence

from app.partners.adapters.osdi import signatures
from app.partners.adapters.parsing import read_array
from app.partners.adapters.translation import Frame, as_text
from app.partners.inbound.items import Item, NoSignature
from app.partners.inbound.json_split import ItemTooLarge, is_too_large

_SIGNATURE = "osdi:signature"
_MISSING = {"at": _SIGNATURE, "message": "Field required"}


def opened_by(token: str, secrets: Sequence[str]) -> int | None:
    """Which of the secrets this token is; None when it is none. Every one is tried, in a time that tells nothing."""
    given, found = _digest(token), None
    for number, secret in enumerate(secrets):
        if hmac.compare_digest(_digest(secret), given):
            found = number
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def keys_of(body: bytes) -> bytes:
    """What makes this webhook the one it is: the keys of its items, in order; of one without a key, its very words.

    Goes through the whole body: what `parsing.read_array` raises about it is raised here.
    """
    keys = [_key_of(item) or [hashlib.sha256(written).hexdigest()] for item, written in read_array(body)]
    return json.dumps(keys).encode()


def read_items(frame: Frame, body: bytes) -> Iterator[Item]:
    """What the body brings, in order."""
    return (_read(frame, item, written) for item, written in read_array(body))


def _read(frame: Frame, item: object, written: bytes) -> Item:
    if item is None and is_too_large(written):
        return ItemTooLarge()
    if not isinstance(item, dict) or not isinstance(item.get(_SIGNATURE), dict):
        return NoSignature([_MISSING])
    return signatures.read(frame, item[_SIGNATURE], _key_of(item))


def _key_of(item: object) -> str | None:
    key = as_text(item.get("idempotency_key")) if isinstance(item, dict) else None
    return key if isinstance(key, str) and key else None
