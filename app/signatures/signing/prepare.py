"""Prepare a signature: from the body that a signer sent to the row that the engine inserts (digest, seal, new id)."""

from datetime import datetime
from uuid import UUID

from pydantic import TypeAdapter

from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.people.fields import emails
from app.people.schemas import Consent
from app.signatures.dimensions import TallyKeys
from app.signatures.engine.signings import AbuseSignals, Signing
from app.signatures.schemas import SignatureBody
from app.signatures.signing import email_domains
from app.signatures.signing.sealing import Personal, seal_body

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
) -> Signing:
    """One attempt to sign, ready for the engine. `reference`: the partner's own id of it, if a partner sent it."""
    canonical = emails.canonical(body.email)
    domain = email_domains.domain_of(canonical)
    signer = ring.digest(canonical)
    return Signing(
        petition_id,
        signer,
        id_ or uuid7(),
        seal_body(ring, petition_id, signer, body, reference),
        TallyKeys(
            country=body.country,
            region=body.region or "",
            source=body.source or "",
            group_id=body.referred_by("group"),
            event_id=body.referred_by("event"),
            signed_at=signed_at,
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


def consents_of(personal: Personal) -> list[Consent]:
    """The consents given with a signature."""
    return _consents.validate_json(personal.consents) if personal.consents else []
