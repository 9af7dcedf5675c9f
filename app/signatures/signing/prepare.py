"""Prepare a signature: from the body that a signer sent to the row that the engine inserts (digest, seal, new id)."""

from datetime import datetime
from uuid import UUID

from pydantic import TypeAdapter

from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7_of_second
from app.kit.text.folding import folded
from app.people.fields import emails
from app.people.schemas import Consent
from app.petitions.clear_text import KNOWN, OTHER, ClearText
from app.signatures.dimensions import TallyKeys
from app.signatures.engine.signings import AbuseSignals, Signing
from app.signatures.schemas import SignatureBody, Unlisted
from app.signatures.signing import email_domains
from app.signatures.signing.sealing import LISTED, Personal, seal_body

_consents = TypeAdapter(list[Consent])


def prepare(
    ring: KeyRing,
    petition_id: UUID,
    body: SignatureBody,
    signed_at: datetime,
    *,
    address_digest: bytes | None = None,
    on_hold: bool | None = None,
    partner_id: UUID | None = None,
    id_: UUID | None = None,
    reference: str = "",
    clear_text: ClearText = KNOWN,
    other_source: str = OTHER,
) -> Signing:
    """One attempt to sign, ready for the engine. `reference`: the partner's own id of it, if a partner sent it.

    When it was signed is kept to the second, by its time and in its id. `clear_text`: what may stand in clear; a source
    that may not is tallied as `other_source`, and sealed.
    """
    canonical = emails.canonical(body.email)
    domain = email_domains.domain_of(canonical)
    signer = ring.digest(canonical)
    region = clear_text.region(body.country, body.region) if body.region else ""
    source = clear_text.source(body.source, other_source) if body.source else ""
    return Signing(
        petition_id,
        signer,
        id_ or uuid7_of_second(),
        seal_body(ring, petition_id, signer, body, reference, _unlisted(body, region, source)),
        TallyKeys(
            country=body.country,
            region=region,
            source=source,
            group_id=body.referred_by("group"),
            event_id=body.referred_by("event"),
            signed_at=signed_at.replace(microsecond=0) if signed_at.microsecond else signed_at,
        ),
        AbuseSignals(
            address_digest=address_digest,
            domain_digest=email_domains.digest(ring, domain),
            disposable=email_domains.is_disposable(domain) or None,
            partner_id=partner_id,
            on_hold=on_hold,
            consents_due=bool(body.consents) or None,
        ),
    )


def _unlisted(body: SignatureBody, region: str, source: str) -> Unlisted:
    """What the signer said of region and source, where it stands in clear as something else than another spelling."""
    said_region, said_source = body.region or "", body.source or ""
    if region == said_region and source == said_source:
        return LISTED
    found = Unlisted(
        said_region if region == OTHER != said_region else "",
        said_source if source != said_source and folded(source) != folded(said_source) else "",
    )
    return found if any(found) else LISTED


def consents_of(personal: Personal) -> list[Consent]:
    """The consents given with a signature."""
    return _consents.validate_json(personal.consents) if personal.consents else []
