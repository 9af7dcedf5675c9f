"""Translates an OSDI signature with its person into a signature of ours: the helper's body, Action Network's items.

Phone numbers are passed over: nobody's is kept without consent on their own page. So are tags, lists, answers to
questions and triggers: what they would set off here is not the sender's to decide.
"""

from collections.abc import Iterable, Sequence

from app.partners.adapters.translation import Context, ForeignSignature, Json, first, part, parts, translate
from app.partners.inbound.items import Item

_AGREES = {"subscribed": True, "unsubscribed": False}
_ADDRESS = ("person", "email_addresses", "address")
_NAMED = {
    "given_name": ("person", "given_name"),
    "family_name": ("person", "family_name"),
    "email": _ADDRESS,
    "country": ("person", "postal_addresses", "country"),
}


def read(context: Context, signature: object, reference: object = None) -> Item:
    """The signature, or why it is none. `reference`: what it is known by, if not by its first identifier."""
    person = part(signature, "person")
    email = _preferred(entry for entry in parts(person, "email_addresses") if entry.get("address"))
    told = ForeignSignature(
        given_name=person.get("given_name"),
        family_name=person.get("family_name"),
        email=email.get("address"),
        country=_postal_address(person).get("country"),
        optional=_optional(signature if isinstance(signature, dict) else {}, person, reference),
        agrees=_agrees(email.get("status")),
        named=_NAMED,
    )
    return translate(context, told)


def identifier(signature: object) -> str | None:
    """By what the sender knows this signature: the first of its identifiers."""
    found = first(signature, "identifiers")
    return found if isinstance(found, str) and found else None


def _optional(signature: Json, person: Json, reference: object) -> dict[str, Sequence[object]]:
    address = _postal_address(person)
    sources = [part(signature, name).get("source") for name in ("referrer_data", "action_network:referrer_data")]
    return {
        "id": [reference, identifier(signature)],
        "postal_code": [address.get("postal_code")],
        "region": [address.get("region")],
        "locale": [first(person, "languages_spoken"), person.get("preferred_language")],
        "comment": [signature.get("comments")],
        "source": sources,
        "signed_at": [signature.get("action_date"), signature.get("created_date")],
    }


def _postal_address(person: Json) -> Json:
    return _preferred(parts(person, "postal_addresses"))


def _preferred(entries: Iterable[Json]) -> Json:
    """The primary one, or else the first."""
    found = list(entries)
    return next((entry for entry in found if entry.get("primary") is True), found[0] if found else {})


def _agrees(status: object) -> bool | None:
    """Whether the signer wants mail from the sender; an address that bounces says nothing about that."""
    return _AGREES.get(status.strip().lower()) if isinstance(status, str) else None
