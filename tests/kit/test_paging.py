"""Keyset pagination: whoever walks the pages meets every row once, newest first, whatever happens meanwhile."""

import base64
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.ids import uuid7
from app.kit.database.paging import HIGHEST_LIMIT, Paging, UnknownCursor, cursor_of, page_of
from app.kit.database.session import Database
from app.organizations.models import Organization

PARTNERS = select(Organization).where(Organization.kind == "partner")


async def _add(session: AsyncSession, count: int) -> list[UUID]:
    """So many partners; their ids, newest first."""
    ids = [uuid7() for _ in range(count)]
    session.add_all(Organization(id=id_, slug=f"partner-{id_}", name="A partner", kind="partner") for id_ in ids)
    await session.flush()
    return ids[::-1]


async def _page(session: AsyncSession, paging: Paging) -> tuple[list[UUID], str | None]:
    page = await page_of(session, PARTNERS, Organization.id, paging, lambda row: row.id)
    return page["items"], page["next_cursor"]


async def _walk(session: AsyncSession, limit: int) -> AsyncIterator[list[UUID]]:
    cursor = None
    while True:
        items, cursor = await _page(session, Paging(cursor=cursor, limit=limit))
        yield items
        if cursor is None:
            return


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 25), limit=st.integers(1, 9), meanwhile=st.lists(st.integers(0, 3), max_size=5))
async def test_walking_the_pages_meets_every_row_once(
    database: Database, count: int, limit: int, meanwhile: list[int]
) -> None:
    async with database.transaction() as session, session.begin_nested() as until_here:
        ids = await _add(session, count)
        met: list[UUID] = []
        async for items in _walk(session, limit):
            assert len(items) <= limit
            met += items
            await _add(session, meanwhile.pop() if meanwhile else 0)
        # What was added meanwhile is newer than the first page, and belongs to the next walk.
        assert met == ids
        await until_here.rollback()


async def test_a_full_last_page_is_known_to_be_the_last(database: Database) -> None:
    async with database.transaction() as session:
        ids = await _add(session, 4)
        first, cursor = await _page(session, Paging(limit=2))
        assert (first, cursor) == (ids[:2], cursor_of(ids[1]))
        assert await _page(session, Paging(cursor=cursor, limit=2)) == (ids[2:], None)


async def test_a_cursor_stays_good_when_its_row_is_gone(database: Database) -> None:
    async with database.transaction() as session:
        ids = await _add(session, 4)
        _, cursor = await _page(session, Paging(limit=2))
        await session.delete(await session.get_one(Organization, ids[1]))
        await session.flush()
        assert await _page(session, Paging(cursor=cursor, limit=2)) == (ids[2:], None)


@given(st.uuids())
def test_a_cursor_is_short_opaque_and_read_back(id_: UUID) -> None:
    cursor = cursor_of(id_)
    assert len(cursor) == 22
    assert Paging(cursor=cursor).after() == id_


@given(st.text(max_size=64))
def test_any_other_text_is_no_cursor(text: str) -> None:
    try:
        after = Paging(cursor=text).after()
    except UnknownCursor:
        return
    assert after is not None
    assert base64.urlsafe_b64decode(text + "==") == after.bytes


def test_a_page_has_a_limit() -> None:
    assert Paging().after() is None
    for limit in (0, -1, HIGHEST_LIMIT + 1):
        with pytest.raises(ValidationError):
            Paging(limit=limit)
