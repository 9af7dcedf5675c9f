"""Petitions that stood before the choice had to be said in words, through its migration and back."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.kit.database import schema_version
from tests.support.postgres import Cluster

_CAMPAIGN = """
    INSERT INTO campaigns (id, slug, state, title, goal_statement, created_at, updated_at)
    VALUES ('00000000-0000-7000-8000-000000000001', 'c', 'active', 'T', 'G', now(), now())
"""
_PETITION = """
    INSERT INTO petitions (id, campaign_id, slug, state, moderation, locale, title, ask, signature_goal,
        next_goal_automatic, confirmation, created_at, updated_at)
    VALUES (gen_random_uuid(), '00000000-0000-7000-8000-000000000001', $1, 'open', 'approved', 'en', 'T', 'A', 100,
        true, $1, now(), now())
"""


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    with cluster.fresh(f"bare_{uuid4().hex[:12]}", "template0") as database:
        yield database.url


async def asked(url: str, *statements: tuple[str, ...]) -> list[Any]:
    connection = await asyncpg.connect(url)
    rows = [await connection.fetch(statement, *values) for statement, *values in statements]
    await connection.close()
    return list(rows[-1])


def test_what_stood_with_none_counts_as_accepted(url: str) -> None:
    schema_version.upgrade(url, "20261127_failures")
    asyncio.run(asked(url, (_CAMPAIGN,), (_PETITION, "none"), (_PETITION, "email")))
    schema_version.upgrade(url)
    rows = asyncio.run(asked(url, ("SELECT slug, accept_unproven FROM petitions ORDER BY slug",)))
    assert [tuple(row) for row in rows] == [("email", False), ("none", True)]
    schema_version.downgrade(url, "20261127_failures")
    assert len(asyncio.run(asked(url, ("SELECT slug FROM petitions",)))) == 2
