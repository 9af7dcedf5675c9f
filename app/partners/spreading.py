"""Spreading: outbox messages become webhook messages, one for every endpoint that wants them."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession


async def spread(session: AsyncSession) -> Sequence[object]:
    """Take outbox messages out and write webhook messages; what was taken out."""
    del session
    return []
