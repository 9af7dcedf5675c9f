"""What is kept no longer: webhooks that came in long ago, messages and attempts that are over."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession


async def forget_webhooks(session: AsyncSession) -> Sequence[object]:
    """Delete what is too old to be asked for; what was deleted."""
    del session
    return []
