"""Keyset pagination: newest first, by id. Ids are UUIDv7, so their order is that of their making."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.kit.problems import Invalid
from app.kit.text import base64url

Row = TypeVar("Row")
Item = TypeVar("Item")

DEFAULT_LIMIT = 50
HIGHEST_LIMIT = 200


class UnknownCursor(Invalid):
    """The cursor is not one this list gave out."""

    slug = "unknown-cursor"


class Page(BaseModel, Generic[Item]):
    """One page; `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None


class Paging(BaseModel):
    """The query parameters of a list."""

    cursor: Annotated[str | None, Query(max_length=64)] = None
    limit: Annotated[int, Query(ge=1, le=HIGHEST_LIMIT)] = DEFAULT_LIMIT

    def after(self) -> UUID | None:
        """The id after which the page starts; None for the first page; UnknownCursor when the cursor is not ours."""
        if self.cursor is None:
            return None
        try:
            return UUID(bytes=base64url.decode(self.cursor))
        except ValueError:
            raise UnknownCursor from None


def cursor_of(id_: UUID) -> str:
    """The cursor of the page that comes after this id; 22 URL-safe characters."""
    return base64url.encode(id_.bytes)


async def page_of(
    session: AsyncSession,
    query: Select[Row],
    key: InstrumentedAttribute[UUID],
    paging: Paging,
    view: Callable[[Row], Item],
) -> dict[str, Any]:
    """Run `query` from the cursor on, newest first, and shape the rows as a `Page` of `view(row)`."""
    after = paging.after()
    if after is not None:
        query = query.where(key < after)
    rows: Sequence[Row] = (await session.scalars(query.order_by(key.desc()).limit(paging.limit + 1))).all()
    shown = rows[: paging.limit]
    more = len(rows) > paging.limit
    return {
        "items": [view(row) for row in shown],
        "next_cursor": cursor_of(getattr(shown[-1], key.key)) if more else None,
    }
