"""The feed: consents given with a signature, numbered in the order in which they became known here.

Ids are made before the transaction commits, so in the order of ids a consent may appear behind a reader. Numbers are
given by one transaction at a time, to consents that are committed: whoever has read up to a number has missed nothing
below it. Numbers never go back: a database that was restored from a dump continues above all that it has ever given.
They tell when to the second: what follows the second in a number is a place.

What a number stands for is looked up when somebody is told of it, and is left out if it is no longer true.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.logs import log
from app.partners.outbound.feed.schemas import SignerConsent, SignerView
from app.partners.partnerships.terms import receives
from app.people.pseudonyms import person_id, signature_id
from app.people.queries import PRECEDENCE
from app.signatures.signing.sealing import Personal, unseal

# "feed" in ASCII: the advisory lock of whoever gives numbers.
_LOCK = 0x66656564
_LOCK_NUMBERING = text("SELECT pg_advisory_xact_lock(:lock)")
# The consent is locked, so that it is not deleted before the transaction commits. An erasure is not waited for.
_NUMBER = text("""
    WITH last AS MATERIALIZED (
        SELECT greatest(
            (SELECT max(number) FROM signer_feed_entries),
            CAST(extract(epoch FROM date_trunc('second', clock_timestamp())) * 1000000 AS bigint)
        ) AS number
    )
    INSERT INTO signer_feed_entries (number, organization_id, consent_id)
    SELECT last.number + held.place, held.organization_id, held.id FROM last, (
        SELECT c.id, c.organization_id, n.place
        FROM unnest(CAST(:consent_ids AS uuid[])) WITH ORDINALITY AS n (id, place) JOIN consents c ON c.id = n.id
        FOR KEY SHARE OF c SKIP LOCKED
    ) AS held ORDER BY held.place
    ON CONFLICT (consent_id) DO NOTHING RETURNING number, organization_id, consent_id
""")
_HELD_BY_OTHERS = text("""
    SELECT c.id FROM consents c WHERE c.id = ANY (:consent_ids)
    AND NOT EXISTS (SELECT 1 FROM signer_feed_entries f WHERE f.consent_id = c.id)
""")
_RECEIVES = receives("f.organization_id", "p")
_RECEIVED = text(f"""
    SELECT f.number FROM signer_feed_entries f
    JOIN consents c ON c.id = f.consent_id JOIN petitions p ON p.id = c.petition_id
    WHERE f.number = ANY (:numbers) AND {_RECEIVES}
""")
_NUMBERS = text("""
    SELECT number FROM signer_feed_entries WHERE organization_id = :organization_id AND number > :behind
    ORDER BY number LIMIT :limit
""")
# Of each consent the attempt that it came with, and no other: what somebody said elsewhere is nobody's here. What was
# entered before attempts were noted is told of a signature that the person themself has confirmed.
_SIGNERS = text(f"""
    SELECT c.signer, c.petition_id, p.slug, s.id, s.country, s.region, s.signed_at, s.sealed,
        s.partner_id = f.organization_id AS own, latest.decided_at, latest.proven, t.version
    FROM signer_feed_entries f
    JOIN consents c ON c.id = f.consent_id
    JOIN petitions p ON p.id = c.petition_id
    JOIN LATERAL (
        SELECT o.id, o.country, o.region, o.signed_at, o.sealed, o.partner_id FROM signatures o
        WHERE o.petition_id = c.petition_id AND o.signer = c.signer AND o.state = 'confirmed'
        AND (o.id = c.attempt_id OR c.attempt_id IS NULL AND o.proven)
        UNION ALL
        SELECT a.id, a.country, a.region, a.signed_at, a.sealed, a.partner_id FROM signature_attempts a
        JOIN signatures o ON o.petition_id = a.petition_id AND o.signer = a.signer AND o.state = 'confirmed'
        WHERE a.petition_id = c.petition_id AND a.signer = c.signer AND a.id = c.attempt_id
        AND a.state = 'confirmed' AND a.proven
    ) AS s ON true
    JOIN LATERAL (
        SELECT l.given, l.decided_at, l.proven, l.text_id FROM consents l
        WHERE l.signer = c.signer AND l.organization_id = c.organization_id AND l.purpose = c.purpose
        ORDER BY {", ".join(f"l.{name} DESC" for name in PRECEDENCE)} LIMIT 1
    ) AS latest ON latest.given
    LEFT JOIN consent_texts t ON t.id = latest.text_id
    WHERE f.organization_id = :organization_id AND f.number BETWEEN :first AND :last AND {_RECEIVES}
    AND (c.proven OR c.attempt_id IS NOT NULL)
    ORDER BY f.number
""")


class KeyMissingError(Exception):
    """A signature is under a key that this ring lacks: it can be told of when the key is back, so not passed over."""


class Numbered(NamedTuple):
    """A consent and its number."""

    number: int
    organization_id: UUID
    consent_id: UUID


class Span(NamedTuple):
    """A part of an organization's feed, both ends included."""

    organization_id: UUID
    first: int
    last: int


async def lock_numbering(session: AsyncSession) -> None:
    """Take the lock of whoever gives numbers, until this transaction ends."""
    await session.execute(_LOCK_NUMBERING, {"lock": _LOCK})


async def number(session: AsyncSession, consent_ids: Sequence[UUID]) -> tuple[list[Numbered], set[UUID]]:
    """Number these in their order; and those that must be tried again, because their rows are locked by an erasure.

    Those that are gone are in neither. The caller holds the lock (`lock_numbering`).
    """
    rows = await session.execute(_NUMBER, {"consent_ids": list(consent_ids)})
    numbered = sorted(Numbered(*row) for row in rows)
    missing = set(consent_ids) - {one.consent_id for one in numbered}
    if not missing:
        return numbered, set()
    return numbered, set(await session.scalars(_HELD_BY_OTHERS, {"consent_ids": list(missing)}))


async def received(session: AsyncSession, numbers: Collection[int]) -> set[int]:
    """Those of these numbers of which their organizations may be told."""
    return set(await session.scalars(_RECEIVED, {"numbers": list(numbers)})) if numbers else set()


async def numbers_behind(session: AsyncSession, organization_id: UUID, behind: int, limit: int) -> Sequence[int]:
    """The next numbers of an organization's feed."""
    values = {"organization_id": organization_id, "behind": behind, "limit": limit}
    return (await session.scalars(_NUMBERS, values)).all()


async def signers_in(session: AsyncSession, ring: KeyRing, span: Span) -> list[SignerView]:
    """Those of this span whose consent stands and whose signature is confirmed now, in the order of their numbers.

    Somebody who is in it twice with one signature is named once. What its key does not open is left out;
    KeyMissingError when this ring lacks that key.
    """
    rows = (await session.execute(_SIGNERS, span._asdict())).all()
    # Somebody who is in it twice is named at the later place.
    by_signature = {row.id: row for row in reversed(rows)}
    views = [_view(ring, span.organization_id, row) for row in reversed(by_signature.values())]
    readable = [view for view in views if view is not None]
    if len(readable) < len(views):
        log.error("signatures cannot be read", count=len(views) - len(readable))
    return readable


def _view(ring: KeyRing, organization_id: UUID, row: Any) -> SignerView | None:
    try:
        personal = unseal(ring, row.petition_id, row.signer, row.sealed)
    except SealBrokenError:
        if ring.lacks_key_of(row.sealed):
            raise KeyMissingError from None
        return None
    return SignerView(
        signature_id=UUID(signature_id(ring, organization_id, row.id)),
        person_id=person_id(ring, organization_id, row.signer),
        petition_id=row.petition_id,
        petition=row.slug,
        country=row.country,
        region=personal.unlisted_region or row.region or None,
        signed_at=row.signed_at,
        consent=SignerConsent(text_version=row.version, decided_at=row.decided_at, proven=row.proven),
        **_told(personal, own=bool(row.own)),
    )


def _told(personal: Personal, *, own: bool) -> dict[str, str | None]:
    """What is told of what was sealed; the reference to whom it came from alone."""
    return {
        "given_name": personal.given_name,
        "family_name": personal.family_name,
        "email": personal.email,
        "postal_code": personal.postal_code or None,
        "locale": personal.locale or None,
        "reference": personal.reference or None if own else None,
    }
