"""Pulling the feed: a partner reads it page by page at its own pace, and misses nobody."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.paging import Paging, UnknownCursor
from app.kit.logs import failure_of, log
from app.kit.problems import Unavailable
from app.partners.outbound.feed.feed import KeyMissingError, Span, numbers_behind, signers_in
from app.partners.outbound.feed.schemas import SignersPage, SignerView
from app.partners.partnerships.terms import NoPartnership, receiving_campaigns

_NUMBER_BYTES = 8
# Seconds: until then an operator may have brought the missing key back.
_LATER = 60


async def pull(session: AsyncSession, ring: KeyRing, organization_id: UUID, paging: Paging) -> SignersPage:
    """The next page of a partner's feed, oldest first; NoPartnership, UnknownCursor, Unavailable."""
    if not await receiving_campaigns(session, organization_id):
        raise NoPartnership("No active partnership lets you receive signers.")
    behind = _read(ring, organization_id, paging.cursor) if paging.cursor is not None else 0
    numbers = await numbers_behind(session, organization_id, behind, paging.limit + 1)
    shown = numbers[: paging.limit]
    items = await _signers(session, ring, Span(organization_id, shown[0], shown[-1])) if shown else []
    cursor = _write(ring, organization_id, shown[-1] if shown else behind)
    return SignersPage(items=items, next_cursor=cursor if len(numbers) > len(shown) else None, cursor=cursor)


async def _signers(session: AsyncSession, ring: KeyRing, span: Span) -> list[SignerView]:
    try:
        return await signers_in(session, ring, span)
    except KeyMissingError as error:
        log.error("signers cannot be read", **failure_of(error))
        raise Unavailable("Some signers cannot be read right now.", retry_after=_LATER) from None


def _identity(organization_id: UUID) -> bytes:
    return b"signers.cursor" + organization_id.bytes


def _write(ring: KeyRing, organization_id: UUID, number: int) -> str:
    """Where a page ends, 51 characters; sealed, as numbers tell how many have consented to others meanwhile."""
    return ring.write_token(number.to_bytes(_NUMBER_BYTES), _identity(organization_id))


def _read(ring: KeyRing, organization_id: UUID, cursor: str) -> int:
    """The number behind which a page starts; UnknownCursor."""
    try:
        return int.from_bytes(ring.read_token(cursor, _identity(organization_id)))
    except SealBrokenError:
        raise UnknownCursor from None
