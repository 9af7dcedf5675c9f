"""Pulling: a partner reads its feed at its own pace, and misses nobody."""

import base64
import binascii
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.paging import Paging, UnknownCursor
from app.kit.sealing import KeyRing, SealBrokenError
from app.partners.outbound.feeding import Span, numbers_behind, signers_in
from app.partners.outbound.signer_schemas import SignersPage
from app.partners.terms import NoPartnership, receiving_campaigns

_NUMBER_BYTES = 8


async def pull(session: AsyncSession, ring: KeyRing, organization_id: UUID, paging: Paging) -> SignersPage:
    """The next page of a partner's feed, oldest first; NoPartnership, UnknownCursor."""
    if not await receiving_campaigns(session, organization_id):
        raise NoPartnership("No active partnership lets you receive signers.")
    behind = _read(ring, organization_id, paging.cursor) if paging.cursor is not None else 0
    numbers = await numbers_behind(session, organization_id, behind, paging.limit + 1)
    shown = numbers[: paging.limit]
    items = await signers_in(session, ring, Span(organization_id, shown[0], shown[-1])) if shown else []
    cursor = _write(ring, organization_id, shown[-1] if shown else behind)
    return SignersPage(items=items, next_cursor=cursor if len(numbers) > len(shown) else None, cursor=cursor)


def _identity(organization_id: UUID) -> bytes:
    return b"signers.cursor" + organization_id.bytes


def _write(ring: KeyRing, organization_id: UUID, number: int) -> str:
    """Where a page ends, 51 characters; sealed, as numbers tell how many have consented to others meanwhile."""
    sealed = ring.seal_token(number.to_bytes(_NUMBER_BYTES), _identity(organization_id))
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _read(ring: KeyRing, organization_id: UUID, cursor: str) -> int:
    """The number behind which a page starts; UnknownCursor."""
    try:
        sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return int.from_bytes(ring.open_token(sealed, _identity(organization_id)))
    except (binascii.Error, ValueError, SealBrokenError):
        raise UnknownCursor from None
