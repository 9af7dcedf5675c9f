"""Erasing others: a data officer erases up to five people a day at once; each further one waits.

Whoever asks by mail is one; who erases hundreds in a night has stolen a key. A person's own erasure never waits.
"""

from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.problems import Unavailable
from app.kit.room_interface import CarryOut, ErasureChoice, Services
from app.organizations.models import AuditEntry, PendingAct
from app.organizations.pending_acts.responses import Accepted
from app.organizations.pending_acts.service import Asked, ask
from app.organizations.principals import Principal
from app.people.personal_data import data_rights

ERASE = "person.erase"
AT_ONCE = 5
_DAY = timedelta(days=1)
_ROLES = ("owner", "data_officer")
# "eras" in ASCII.
_LOCK = text("SELECT pg_try_advisory_xact_lock(1701994867)")


async def must_wait(session: AsyncSession, by: Principal) -> bool:
    """Whether the organization has erased as many within 24 hours as it may at once; Unavailable while it erases one.

    One at a time, or any number begun at once would each be the first. Nobody waits for the other holding a connection.
    """
    if not await session.scalar(_LOCK):
        raise Unavailable("Another erasure is being carried out.")
    of_organization = (AuditEntry.verb == ERASE, AuditEntry.organization_id == by.organization_id)
    done = (*of_organization, AuditEntry.category == "destruction", AuditEntry.at > now() - _DAY)
    count = await session.scalar(select(func.count()).select_from(AuditEntry).where(*done))
    return count is not None and count >= AT_ONCE


async def ask_to_erase(session: AsyncSession, by: Principal, signer: bytes, choice: ErasureChoice) -> Accepted:
    """Let an erasure wait. Of the person only the digest is kept, until it is over."""
    asked = Asked(ERASE, "person", _ROLES, content={"signatures": choice}, signer=signer)
    return Accepted(await ask(session, by, asked))


def erasing(services: Services) -> CarryOut:
    """What erases the person of an act that waited."""

    async def erase(session: AsyncSession, act: PendingAct) -> None:
        if act.signer is not None:
            choice: ErasureChoice = act.content["signatures"]
            await data_rights.erase_in(session, services.key_ring, services.personal_data(), act.signer, choice)

    return erase
