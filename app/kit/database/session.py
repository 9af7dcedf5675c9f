"""Database sessions: one engine a process, and the only code that commits.

`transaction()` commits when its block ends and rolls back when it raises. As a FastAPI dependency it is declared
with `scope="function"` (see `Session`), so that the commit has happened before the answer is sent: since FastAPI
0.118 a plain dependency's end runs after the response, and a failing commit would still answer 201.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import asyncpg
from fastapi import Depends, Request
from sqlalchemy import DateTime, MetaData, Text, Uuid
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

# Seconds. A statement that takes longer is a bug or a blocked table; it must not hold its request for ever.
STATEMENT_TIMEOUT = 30
LOCK_TIMEOUT = 10
CONNECT_TIMEOUT = 5
# Seconds to wait for an answer: a connection that died without a word must not block its caller longer.
ANSWER_TIMEOUT = STATEMENT_TIMEOUT + 5
# Seconds for a batch's whole transaction. Short, so that a lost one is tried again while its signers still wait.
COMMIT_TIMEOUT = 8
_COMMIT_LOCK_TIMEOUT = 5

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Base(DeclarativeBase):
    """All tables; the naming convention lets a migration name every constraint."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s__%(column_0_N_name)s",
            "uq": "uq_%(table_name)s__%(column_0_N_name)s",
            "ck": "ck_%(table_name)s__%(constraint_name)s",
            "fk": "fk_%(table_name)s__%(column_0_N_name)s__%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text, UUID: Uuid}  # noqa: RUF012


def sqlalchemy_url(url: str) -> str:
    """The address in the form that SQLAlchemy takes; ValueError for another database than PostgreSQL."""
    parsed = make_url(url)
    if parsed.drivername not in {"postgres", "postgresql", "postgresql+asyncpg"}:
        raise ValueError("DATABASE_URL must begin with postgresql://")
    return parsed.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def driver_url(url: str) -> str:
    """The same address in the form that asyncpg and the PostgreSQL tools take."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


# Set after connecting: as startup parameters PgBouncer would refuse them. They have no effect on a unix socket.
_KEEPALIVES = "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 15; SET tcp_keepalives_count = 4"


def _server_settings(name: str) -> dict[str, str]:
    return {
        "application_name": f"multitude {name}",
        "timezone": "UTC",
        "statement_timeout": f"{STATEMENT_TIMEOUT}s",
        "lock_timeout": f"{LOCK_TIMEOUT}s",
        "idle_in_transaction_session_timeout": "60s",
        # PostgreSQL's just-in-time compiler costs more than it saves on statements as short as ours.
        "jit": "off",
    }


class Database:
    """One process's connections to PostgreSQL: a small pool for the rooms, and pinned ones for the hot room."""

    def __init__(
        self, url: str, *, pool_size: int = 5, name: str = "api", answer_timeout: float | None = ANSWER_TIMEOUT
    ) -> None:
        self._driver_url = driver_url(url)
        self._name = name
        self.engine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=5,
            pool_pre_ping=True,
            connect_args={
                "server_settings": _server_settings(name),
                "timeout": CONNECT_TIMEOUT,
                "command_timeout": answer_timeout,
            },
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One unit of work: committed when the block ends, rolled back when it raises."""
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """A read-only unit of work in which every statement sees the same moment."""
        async with self._sessions() as session:
            await session.connection(
                execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            )
            yield session
            await session.rollback()

    async def pin(self, *, by_key: bool = False) -> Connection:
        """A connection outside the pool; the caller closes it.

        `by_key`: every statement on it looks rows up by an index. A plan that was made while a table was empty would
        otherwise read all of it, and go on so while it grows, until the table is analyzed.

        If our host dies without a word, the server notices within two minutes and frees the connection's locks.
        """
        limits = {"statement_timeout": f"{COMMIT_TIMEOUT}s", "lock_timeout": f"{_COMMIT_LOCK_TIMEOUT}s"}
        limits |= {"enable_seqscan": "off"} if by_key else {}
        connection: Connection = await asyncpg.connect(
            self._driver_url,
            server_settings=_server_settings(self._name) | limits,
            timeout=CONNECT_TIMEOUT,
            command_timeout=ANSWER_TIMEOUT,
        )
        try:
            await connection.execute(_KEEPALIVES)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def close(self) -> None:
        await self.engine.dispose()


@asynccontextmanager
async def savepoint(session: AsyncSession) -> AsyncIterator[None]:
    """A part of a unit of work that is undone by itself when its block raises; the rest goes on."""
    async with session.begin_nested():
        yield


@asynccontextmanager
async def committing(connection: Connection) -> AsyncIterator[None]:
    """One unit of work on a pinned connection: committed when the block ends, rolled back when it raises."""
    async with connection.transaction():
        yield


async def transaction(request: Request) -> AsyncIterator[AsyncSession]:
    """The session of a request, a unit of work that is committed before the answer is sent."""
    database: Database = request.app.state.services.database
    async with database.transaction() as session:
        yield session


Session = Annotated[AsyncSession, Depends(transaction, scope="function")]


def is_refusal(error: BaseException) -> bool:
    """Whether PostgreSQL refused these very values (data or constraint): trying again cannot help."""
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate or "")[:2] in {"22", "23"}
