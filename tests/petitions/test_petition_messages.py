"""What a petition's life announces: each thing once, whoever brings it about, and nothing that did not happen."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.petitions import service
from app.petitions.milestones import reach
from tests.support.databases import run

Headers = dict[str, str]
Json = dict[str, Any]
Draft = Callable[..., Awaitable[Json]]
LetPass = Callable[[timedelta], Awaitable[None]]

AT = "/v1/petitions/repeal-the-act"
HOUR = timedelta(hours=1)


async def said(database: Database) -> list[tuple[str, Json]]:
    """What waits to be told, in the order in which it was announced."""
    rows = await run(database, "SELECT type, content, organization_id FROM outbox_messages ORDER BY number")
    assert all(row.organization_id is None for row in rows)
    return [(row.type, row.content) for row in rows]


async def types(database: Database) -> list[str]:
    return [type_.removeprefix("petition.") for type_, _ in await said(database)]


async def sweep_the_clock(database: Database) -> None:
    async with database.transaction() as session:
        await service.apply_scheduled_transitions(session)


async def test_publishing_closing_and_reopening_are_announced_once_each(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft
) -> None:
    petition = await draft()
    assert await said(database) == []
    for verb in ("publish", "publish", "close", "close", "reopen", "reopen"):
        assert (await client.post(f"{AT}/{verb}", headers=campaigner)).status_code == 200
    assert await types(database) == ["published", "closed", "published"]
    contents = [content for _, content in await said(database)]
    assert {content["petition_id"] for content in contents} == {petition["id"]}
    assert {frozenset(content) for content in contents} == {frozenset({"petition_id", "at"})}
    times = [content["at"] for content in contents]
    assert times == sorted(times)


async def test_what_is_refused_is_not_announced(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft
) -> None:
    await draft()
    for verb in ("close", "reopen", "archive"):
        assert (await client.post(f"{AT}/{verb}", headers=campaigner)).status_code == 409
    assert await said(database) == []


async def test_what_is_rolled_back_was_never_said(database: Database, draft: Draft) -> None:
    petition = await draft(milestones=[{"signature_count": 10}])

    async def publish_and_fail() -> None:
        async with database.transaction() as session:
            await service.publish(session, petition["slug"])
            await reach(session, UUID(petition["id"]), 10, now())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await publish_and_fail()
    assert await said(database) == []


async def test_what_the_clock_does_is_announced_by_the_sweep_with_the_time_it_was_to_happen(
    database: Database, draft: Draft, let_pass: LetPass
) -> None:
    await draft(opens_at=(now() + HOUR).isoformat(), closes_at=(now() + 3 * HOUR).isoformat())
    await sweep_the_clock(database)
    assert await said(database) == []
    await let_pass(2 * HOUR)
    for _ in range(2):
        await sweep_the_clock(database)
    assert await types(database) == ["published"]
    await let_pass(2 * HOUR)
    for _ in range(2):
        await sweep_the_clock(database)
    assert await types(database) == ["published", "closed"]
    (_, _), (_, closed) = await said(database)
    assert closed["at"] == (await run(database, "SELECT closes_at FROM petitions"))[0][0].isoformat()


async def test_a_draft_that_opened_and_closed_unseen_is_announced_as_both(
    database: Database, draft: Draft, let_pass: LetPass
) -> None:
    await draft(opens_at=(now() + HOUR).isoformat(), closes_at=(now() + 2 * HOUR).isoformat())
    await let_pass(3 * HOUR)
    await sweep_the_clock(database)
    assert await types(database) == ["published", "closed"]


async def test_what_the_clock_did_is_announced_by_whoever_changes_the_petition_first(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft, let_pass: LetPass
) -> None:
    await draft(opens_at=(now() + HOUR).isoformat())
    await let_pass(2 * HOUR)
    assert (await client.patch(AT, json={"title": "A new title"}, headers=campaigner)).status_code == 200
    assert await types(database) == ["published"]
    assert (await client.post(f"{AT}/publish", headers=campaigner)).status_code == 200
    await sweep_the_clock(database)
    assert await types(database) == ["published"]


async def test_closing_before_the_clock_has_been_written_down_announces_both(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft, let_pass: LetPass
) -> None:
    await draft(opens_at=(now() + HOUR).isoformat())
    await let_pass(2 * HOUR)
    assert (await client.post(f"{AT}/close", headers=campaigner)).status_code == 200
    assert await types(database) == ["published", "closed"]


async def test_every_threshold_is_announced_once(database: Database, draft: Draft) -> None:
    petition = await draft(milestones=[{"signature_count": n} for n in (10, 50, 1000)])
    for count in (9, 60, 60, 120):
        async with database.transaction() as session:
            await reach(session, UUID(petition["id"]), count, now())
    told = [(content["threshold_count"], content["signature_count"]) for _, content in await said(database)]
    assert told == [(10, 60), (50, 60), (100, 120)]
    assert set(await types(database)) == {"milestone_reached"}


async def test_an_open_petition_is_announced_when_it_is_approved(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, published: Json
) -> None:
    assert await types(database) == ["published"]
    for moderation in ("removed", "rejected", "approved", "approved"):
        body = {"moderation": moderation, "reason": "as we agreed"}
        answer = await client.put(f"{AT}/moderation", json=body, headers=campaigner)
        assert answer.status_code == 200, answer.text
    assert await types(database) == ["published", "published"]


async def moderate(client: httpx.AsyncClient, campaigner: Headers, moderation: str) -> None:
    body = {"moderation": moderation, "reason": "as we agreed"}
    answer = await client.put(f"{AT}/moderation", json=body, headers=campaigner)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("moderation", ["pending", "removed"])
async def test_what_is_not_approved_opens_and_closes_in_silence_and_is_announced_once_it_is(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft, moderation: str
) -> None:
    await draft()
    for verbs, told in (
        (["publish"], ["published"]),
        (["close"], ["closed"]),
        (["reopen", "close", "reopen"], ["published"]),
    ):
        await moderate(client, campaigner, moderation)
        before = await types(database)
        for verb in verbs:
            assert (await client.post(f"{AT}/{verb}", headers=campaigner)).status_code == 200
        assert await types(database) == before
        await moderate(client, campaigner, "approved")
        assert await types(database) == before + told


async def test_what_the_clock_does_to_a_petition_that_is_not_approved_is_announced_once_it_is(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft, let_pass: LetPass
) -> None:
    await draft(opens_at=(now() + HOUR).isoformat())
    await moderate(client, campaigner, "pending")
    await let_pass(2 * HOUR)
    await sweep_the_clock(database)
    assert await types(database) == []
    await moderate(client, campaigner, "approved")
    await sweep_the_clock(database)
    assert await types(database) == ["published"]


async def test_what_the_clock_has_opened_and_who_approves_sees_first_is_announced_once(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, draft: Draft, let_pass: LetPass
) -> None:
    await draft(opens_at=(now() + HOUR).isoformat())
    await moderate(client, campaigner, "pending")
    await let_pass(2 * HOUR)
    await moderate(client, campaigner, "approved")
    await sweep_the_clock(database)
    assert await types(database) == ["published"]
