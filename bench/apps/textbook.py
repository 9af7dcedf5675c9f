"""The textbook: a row by the ORM and `count = count + 1`, as FastAPI and SQLAlchemy themselves teach it.

FastAPI, "SQL (Relational) Databases": a session dependency with `yield`, `session.add`, `session.commit`.
SQLAlchemy, "Asynchronous I/O": `async_sessionmaker(expire_on_commit=False)`; "Embedding SQL Insert/Update
Expressions into a Flush": `petition.signature_count = Petition.signature_count + 1`, which loses no count.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import ForeignKey, UniqueConstraint, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.kit.database.session import sqlalchemy_url
from app.signatures.schemas import SigningBody


class Base(DeclarativeBase):
    pass


class Petition(Base):
    __tablename__ = "petitions"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    slug: Mapped[str] = mapped_column(unique=True)
    signature_count: Mapped[int] = mapped_column(default=0)


class Signature(Base):
    __tablename__ = "signatures"
    __table_args__ = (UniqueConstraint("petition_id", "email"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    petition_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("petitions.id"))
    given_name: Mapped[str]
    family_name: Mapped[str]
    email: Mapped[str]
    country: Mapped[str]


engine = create_async_engine(sqlalchemy_url(os.environ["DATABASE_URL"]))
new_session = async_sessionmaker(engine, expire_on_commit=False)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with new_session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with new_session() as session:
        session.add(Petition(slug="p0"))
        await session.commit()
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/v1/petitions/{petition}/signatures", status_code=201)
async def sign(petition: str, body: SigningBody, session: SessionDep) -> dict[str, str]:
    row = await session.scalar(select(Petition).where(Petition.slug == petition))
    if row is None:
        raise HTTPException(404)
    signature = Signature(
        petition_id=row.id,
        given_name=body.given_name,
        family_name=body.family_name,
        email=body.email,
        country=body.country,
    )
    session.add(signature)
    row.signature_count = Petition.signature_count + 1
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(409) from None
    return {"id": str(signature.id), "status": "confirmed"}
