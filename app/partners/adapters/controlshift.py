"""Adapter for ControlShift's webhook: one event at a time, signed with an HMAC over its body.

It sends everything that happens to one address; what is not a new signature is no business of ours.
"""

import re
from collections.abc import Sequence

from app.partners.adapters.translation import Context, ForeignSignature, Json, as_text, part, translate
from app.partners.inbound.items import Item

HEADER = "x-controlshift-webhook-signature"
_SIGNATURE = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII | re.IGNORECASE)
_NAMED = {
    "given_name": ("data", "first_name"),
    "family_name": ("data", "last_name"),
    "email": ("data", "email"),
    "country": ("data", "country"),
}


def signatures_of(headers: Sequence[str]) -> list[bytes]:
    """The digest that the header holds; none when it is missing, doubled or not one."""
    match = _SIGNATURE.fullmatch(headers[0]) if len(headers) == 1 else None
    return [bytes.fromhex(match[1])] if match else []


def is_new_signature(event: Json) -> bool:
    """Whether it tells of somebody who has signed."""
    return event.get("type") == "signature.created"


def identifier(event: Json) -> str | None:
    """By what ControlShift knows this signature."""
    found = as_text(part(event, "data").get("id"))
    return found if isinstance(found, str) and found else None


def read(context: Context, event: Json) -> Item:
    """The signature, or why it is none (NoSignature)."""
    data = part(event, "data")
    joins = data.get("join_organisation")
    told = ForeignSignature(
        given_name=data.get("first_name"),
        family_name=data.get("last_name"),
        email=data.get("email"),
        country=data.get("country"),
        optional={
            "id": [identifier(event)],
            "postal_code": [data.get("postcode")],
            "signed_at": [data.get("created_at")],
        },
        agrees=joins if isinstance(joins, bool) else None,
        named=_NAMED,
    )
    return translate(context, told)
