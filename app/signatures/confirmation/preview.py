"""What the link in a mail would confirm: read from its own attempt, for whoever holds the link, until it is proven."""

from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.logs import failure_of, log
from app.kit.problems import Unavailable
from app.people.consents.words import in_words
from app.signatures.schemas import ConfirmationPreview
from app.signatures.service import SignatureGone
from app.signatures.signing.prepare import consents_of
from app.signatures.signing.sealing import Link, unseal

# Seconds: until then an operator may have brought the missing key back.
_LATER = 60
# `counts` is about this attempt, standing or waiting alike: it does not tell whether another stands. Where mails
# confirm it never holds: who reads a mailbox would learn who had signed.
_ATTEMPT = text("""
    SELECT p.id AS petition_id, p.slug, p.title, o.country, o.region, o.sealed, o.proven,
        p.confirmation = 'none' AND o.state = 'confirmed' AS counts
    FROM (
        SELECT petition_id, signer, id, state, state_before, country, region, sealed, proven FROM signatures
        UNION ALL
        SELECT petition_id, signer, id, state, state_before, country, region, sealed, proven FROM signature_attempts
    ) AS o JOIN petitions p ON p.id = o.petition_id
    WHERE o.petition_id = :petition_id AND o.signer = :signer AND o.id = :id
    AND coalesce(o.state_before, o.state) <> 'withdrawn'
""")


async def preview(session: AsyncSession, ring: KeyRing, link: Link) -> ConfirmationPreview:
    """What this link would confirm; SignatureGone when there is nothing to show, Unavailable while a key is missing."""
    row = (await session.execute(_ATTEMPT, link._asdict())).one_or_none()
    if row is None:
        raise SignatureGone
    if row.proven:
        # Whoever comes later to the mailbox learns no more from it.
        return ConfirmationPreview(status="confirmed", petition_id=row.petition_id, petition=row.slug, title=row.title)
    return await _shown(session, ring, link.signer, row)


async def _shown(session: AsyncSession, ring: KeyRing, signer: bytes, row: Any) -> ConfirmationPreview:
    petition_id: UUID = row.petition_id
    try:
        personal = unseal(ring, petition_id, signer, row.sealed)
        consents = consents_of(personal)
    except (SealBrokenError, ValidationError) as error:
        log.error("a signature cannot be read", **failure_of(error))
        if ring.lacks_key_of(row.sealed):
            # It is there: an operator may bring the key back.
            raise Unavailable("This signature cannot be read right now.", retry_after=_LATER) from None
        raise SignatureGone from None
    (words,) = await in_words(session, [consents])
    return ConfirmationPreview(
        status="unconfirmed",
        petition_id=petition_id,
        petition=row.slug,
        title=row.title,
        counts=row.counts,
        given_name=personal.given_name,
        family_name=personal.family_name,
        country=row.country,
        region=personal.unlisted_region or row.region or None,
        postal_code=personal.postal_code or None,
        comment=personal.comment or None,
        consents=words,
    )
