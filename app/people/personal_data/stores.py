"""What the rooms above keep of a person, as far as this room must know: that they do, what it is, and how it goes.

`app.state.keepers` lists them. They are asked in their order; each erases in transactions of its own, so it must be
possible to ask it again after a failure.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing

# What becomes of signatures when their signer is erased: counted as an anonymous number, or not any more.
ErasureChoice: TypeAlias = Literal["keep", "withdraw"]


class KnowsPeople(Protocol):
    """Somebody who can tell whether a person is known."""

    async def knows(self, session: AsyncSession, signer: bytes) -> bool:
        """Whether anything is kept of this person."""
        ...


class PersonalDataStore(KnowsPeople, Protocol):
    """A room that keeps something of people."""

    @property
    def name(self) -> str:
        """What its part is called in what a person downloads."""
        ...

    async def export(self, session: AsyncSession, ring: KeyRing, signer: bytes) -> Any:
        """All that is kept of this person, as JSON."""
        ...

    async def erase(self, signer: bytes, choice: ErasureChoice) -> None:
        """Destroy all that is kept of this person, and commit; harmless to repeat."""
        ...


def stores_of(request: Request) -> Sequence[PersonalDataStore]:
    """Those this process knows."""
    keepers: Sequence[PersonalDataStore] = request.app.state.keepers
    return keepers
