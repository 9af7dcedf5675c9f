"""A room of some sixty lines, imports aside, as a newcomer would write one: notes that people leave."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import LargeBinary, MetaData, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.kit.crypto.key_rotation import SealedColumn
from app.kit.crypto.sealing import KeyRing
from app.kit.database.outbox import NewMessage, publish
from app.kit.database.session import Session
from app.kit.room_interface import ErasureChoice, Room, Services, Sweep
from app.kit.webhooks.message_types import Audience, MessageType
from app.organizations.auth import Campaigner
from app.people.dependencies import Ring


class TrialBase(DeclarativeBase):
    metadata = MetaData()


class Note(TrialBase):
    __tablename__ = "notes"
    signer: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    is_told: Mapped[bool] = mapped_column(default=False)


class NoteBody(BaseModel):
    email: str
    words: str


class Told(BaseModel):
    count: int


class NotesWritten(BaseModel):
    """Somebody has left a note."""

    type: Literal["note.written"]
    timestamp: datetime
    data: Told


router = APIRouter(tags=["notes"])


@router.post("/v1/notes", status_code=201)
async def write_note(session: Session, ring: Ring, body: NoteBody, _staff: Campaigner) -> Told:
    """Leave a note."""
    signer = ring.digest(body.email)
    session.add(Note(signer=signer, sealed=ring.seal(body.words.encode(), signer)))
    return Told(count=1)


async def tell(session: AsyncSession) -> Sequence[bytes]:
    noted = update(Note).where(Note.is_told.is_(False)).values(is_told=True).returning(Note.signer)
    rows = (await session.scalars(noted)).all()
    await publish(session, [NewMessage("note.written", {"count": len(rows)})] if rows else [])
    return rows


async def write_told(_session: AsyncSession, _ring: KeyRing, messages: Sequence[Any]) -> list[Told]:
    return [Told(count=message.content["count"]) for message in messages]


@dataclass(frozen=True)
class NoteStore:
    services: Services
    name: str = "notes"

    async def export(self, session: AsyncSession, ring: KeyRing, signer: bytes) -> list[str]:
        sealed = await session.scalars(select(Note.sealed).where(Note.signer == signer))
        return [ring.open(value, signer).decode() for value in sealed]

    async def erase(self, signer: bytes, _choice: ErasureChoice) -> None:
        async with self.services.database.transaction() as session:
            await session.execute(delete(Note).where(Note.signer == signer))


ROOM = Room(
    name="notes",
    routers=[router],
    personal_data=NoteStore,
    sealed_columns=[SealedColumn("notes", {"signer": "bytea"}, "sealed", bytes)],
    sweeps=lambda _services: [Sweep("tell_notes", tell)],
    message_types=[
        MessageType("note.written", "a note was left", NotesWritten, write_told, Told, Audience("everybody"))
    ],
    metadata=TrialBase.metadata,
)
