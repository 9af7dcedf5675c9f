"""Translation from the shapes of other systems: how their fields become ours, and what they say of consent.

Their senders send many fields that we have no use for: those are passed over. What a signature must have is judged as
anybody's; what is optional and does not fit ours is left out, for it must never cost the signature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from app.kit.problems import details_of, errors_of
from app.kit.text.fields import Locale, Moment, Paragraph
from app.partners.inbound.items import Item, NoSignature
from app.partners.schemas import PartnerSigning, Reference
from app.petitions.schemas import Region, Source
from app.signatures.schemas import PostalCode

Json: TypeAlias = dict[str, Any]

_OPTIONAL: Mapping[str, Any] = {
    "id": Reference,
    "postal_code": PostalCode,
    "region": Region,
    "locale": Locale,
    "comment": Paragraph,
    "source": Source,
    "signed_at": Moment,
}


@dataclass(frozen=True, slots=True)
class Context:
    """The context of a translation: what it must know beside what was sent.

    `organization` is the partner's slug. `asks_in_words`: it has texts that people agree to, and none of these shapes
    says to which of them somebody has.
    """

    petition: str
    organization: str
    asks_in_words: bool


@dataclass(frozen=True, slots=True)
class ForeignSignature:
    """A foreign signature: what a shape says of it, as it was sent; any of it may be missing or of the wrong type.

    `optional` holds, for each, what may be taken for it, the best first. `agrees`: whether the signer wants to hear
    from the partner; None if they were not asked. `named` says where the sender finds what is named so here.
    """

    given_name: object
    family_name: object
    email: object
    country: object
    optional: Mapping[str, Sequence[object]]
    agrees: bool | None
    named: Mapping[str, tuple[str, ...]]


def translate(context: Context, told: ForeignSignature) -> Item:
    """The signature, or why it is none (NoSignature, which names fields as the sender does)."""
    required = {
        "given_name": told.given_name,
        "family_name": told.family_name,
        "email": told.email,
        "country": _country(told.country),
    }
    optional = {name: _fitting(name, values) for name, values in told.optional.items()}
    fields = {name: value for name, value in (required | optional).items() if value is not None}
    try:
        return PartnerSigning(petition=context.petition, consents=_consents(context, told.agrees), **fields)
    except ValidationError as error:
        return _refused(error, told.named, optional.get("id"))


def _country(value: object) -> object:
    """The country. Where nothing at all is said the terms may name one; what is no country is refused."""
    return value.strip() or None if isinstance(value, str) else value


def _consents(context: Context, agrees: bool | None) -> Any:
    """What the signer told the partner of hearing from it.

    An organization that asks in texts of its own must name the one that was agreed to. No shape can, so the yes is
    left out rather than the signature refused; where the terms ask for it, the signature is refused for want of it.
    """
    if agrees is None or (agrees and context.asks_in_words):
        return []
    return [{"organization": context.organization, "given": agrees}]


@cache
def _reader(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_OPTIONAL[name])


def _fitting(name: str, values: Sequence[object]) -> Any:
    """The first of these values that is one of ours, or None."""
    for value in filter(None, values):
        try:
            found = _reader(name).validate_python(as_text(value))
        except ValidationError:
            continue
        if found:
            return found
    return None


def _refused(error: ValidationError, named: Mapping[str, tuple[str, ...]], reference: str | None) -> NoSignature:
    found = [{**e, "loc": named.get(str(next(iter(e["loc"]), "")), e["loc"])} for e in details_of(error)]
    return NoSignature(errors_of(found), reference)


def as_text(value: object) -> object:
    """A whole number as its digits, for some write ids and postal codes so; anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def part(value: object, name: str) -> Json:
    """The object of this name; an empty one when there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def parts(value: object, name: str) -> list[Json]:
    """The objects in the list of this name; none when there is no such list."""
    found = value.get(name) if isinstance(value, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def first(value: object, name: str) -> object:
    """What stands first in the list of this name, a number as its digits; None when there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return as_text(found[0]) if isinstance(found, list) and found else None
