"""Telling of withdrawals those organizations that were told of the signature."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.sealing import KeyRing


class Telling:
    """The sweep."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def __call__(self, session: AsyncSession) -> Sequence[object]:
        """Announce up to a batch of withdrawals; what was announced."""
        del session
        return []
