"""What cannot be undone of a petition, and therefore waits: archiving it, and bringing its retention nearer."""

from datetime import date

from sqlalchemy.ext.asyncio import AsyncSession

from app.organizations.models import PendingAct
from app.organizations.pending_acts.responses import Accepted
from app.organizations.pending_acts.service import Asked, ask
from app.organizations.principals import Principal
from app.petitions import service
from app.petitions.models import Petition
from app.petitions.service import WrongState
from app.petitions.times import WrongTimes

ARCHIVE, END_RETENTION = "petition.archive", "petition.end_retention"
_ROLES = ("owner", "campaigner")


async def ask_to_archive(session: AsyncSession, by: Principal, petition: Petition) -> Accepted:
    """Let the archiving of a petition wait."""
    return Accepted(await ask(session, by, Asked(ARCHIVE, "petition", _ROLES, petition.id)))


async def ask_to_end_retention(session: AsyncSession, by: Principal, petition: Petition, until: date) -> Accepted:
    """Let a nearer end of retention wait."""
    content = {"personal_data_until": until.isoformat()}
    return Accepted(await ask(session, by, Asked(END_RETENTION, "petition", _ROLES, petition.id, content)))


async def archive(session: AsyncSession, act: PendingAct) -> None:
    """Archive, after the wait; PetitionNotFound, WrongState."""
    await service.archive(session, str(act.object_id))


async def end_retention(session: AsyncSession, act: PendingAct) -> None:
    """Set the nearer end of retention, after the wait; PetitionNotFound, WrongState, WrongTimes."""
    until = date.fromisoformat(act.content["personal_data_until"])
    petition = await service.lock(session, str(act.object_id))
    if petition.personal_data_destroyed_at is not None:
        raise WrongState("The personal data is destroyed.")
    if petition.closes_at is not None and until < petition.closes_at.date():
        raise WrongTimes("It closes later.")
    petition.personal_data_until = until
    await session.flush()
