"""A petition's states: by staff's verbs, and by the clock."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from app.campaigns.models import Campaign
from app.kit.clock import now
from app.kit.database.session import Database
from app.petitions.service import apply_scheduled_transitions, lock
from tests.support import second_person

Headers = dict[str, str]
Json = dict[str, Any]
Draft = Callable[..., Awaitable[Json]]
LetPass = Callable[[timedelta], Awaitable[None]]
Say = Callable[..., Awaitable[httpx.Response]]

HOUR = timedelta(hours=1)
AT = "/v1/petitions/repeal-the-act"


def _in(time: timedelta) -> str:
    return (now() + time).isoformat()


@pytest.fixture
def say(client: httpx.AsyncClient, campaigner: Headers, owner: Headers) -> Say:
    """Say a verb to the petition; what waits is confirmed by an owner, who is another person."""

    async def send(verb: str, **body: object) -> httpx.Response:
        return await second_person.send(client, owner, "POST", f"{AT}/{verb}", campaigner, body or None)

    return send


async def test_a_petition_is_published_closed_reopened_and_archived(draft: Draft, say: Say) -> None:
    await draft()
    for verb, state in [
        ("publish", "open"),
        ("close", "closed"),
        ("reopen", "open"),
        ("close", "closed"),
        ("archive", "archived"),
    ]:
        answer = await say(verb)
        assert (answer.status_code, answer.json()["state"]) == (200, state)


async def test_saying_a_verb_again_changes_nothing(draft: Draft, say: Say) -> None:
    await draft()
    for verb in ("publish", "close", "reopen", "close", "archive"):
        first, second = await say(verb), await say(verb)
        assert second.status_code == 200
        assert second.json() == first.json()


OUT_OF_TURN = [
    ([], "draft", ["close", "reopen", "archive"]),
    (["publish"], "open", ["archive"]),
    (["close"], "closed", ["publish"]),
    (["archive"], "archived", ["publish", "close", "reopen"]),
]


async def test_a_verb_out_of_turn_is_refused_with_the_reason(draft: Draft, say: Say) -> None:
    await draft()
    for verbs, state, wrong in OUT_OF_TURN:
        for verb in verbs:
            assert (await say(verb)).json()["state"] == state
        for verb in wrong:
            answer = await say(verb)
            assert answer.status_code == 409
            assert answer.json()["type"] == "urn:multitude:problem:wrong-state"
            assert f"`{state}`" in answer.json()["detail"]


async def test_publishing_opens_now_however_late_the_opening_was_planned(draft: Draft, say: Say) -> None:
    await draft(opens_at=_in(HOUR), closes_at=_in(2 * HOUR))
    petition = (await say("publish")).json()
    assert datetime.fromisoformat(petition["opens_at"]) <= now()
    assert datetime.fromisoformat(petition["closes_at"]) > now()


async def test_a_draft_whose_closing_time_has_passed_is_not_published(
    draft: Draft, say: Say, let_pass: LetPass
) -> None:
    await draft(closes_at=_in(HOUR))
    await let_pass(2 * HOUR)
    answer = await say("publish")
    assert answer.status_code == 409
    assert "closes_at" in answer.json()["detail"]


async def test_a_draft_opens_by_itself_when_its_time_has_come(
    client: httpx.AsyncClient, draft: Draft, let_pass: LetPass
) -> None:
    await draft(opens_at=_in(HOUR))
    assert (await client.get(AT)).status_code == 404
    await let_pass(HOUR)
    answer = await client.get(AT)
    assert (answer.status_code, answer.json()["state"]) == (200, "open")


async def test_an_open_petition_closes_by_itself_when_its_time_has_come(
    client: httpx.AsyncClient, draft: Draft, say: Say, let_pass: LetPass
) -> None:
    await draft(closes_at=_in(HOUR))
    await say("publish")
    await let_pass(HOUR)
    assert (await client.get(AT)).json()["state"] == "closed"


async def test_staff_meet_the_state_the_clock_has_brought_about(draft: Draft, say: Say, let_pass: LetPass) -> None:
    await draft(opens_at=_in(HOUR), closes_at=_in(2 * HOUR))
    await let_pass(HOUR)
    assert (await say("publish")).json()["state"] == "open"
    await let_pass(HOUR)
    closed = (await say("close")).json()
    assert closed["state"] == "closed"
    assert datetime.fromisoformat(closed["closes_at"]) <= now()


async def test_reopening_forgets_the_closing_time_or_sets_a_new_one(draft: Draft, say: Say) -> None:
    await draft()
    await say("publish")
    assert (await say("close")).json()["closes_at"] is not None
    assert (await say("reopen")).json()["closes_at"] is None
    await say("close")
    again = (await say("reopen", closes_at=_in(HOUR))).json()
    assert again["state"] == "open"
    assert datetime.fromisoformat(again["closes_at"]) > now()


async def test_reopening_until_a_time_that_has_passed_is_refused(draft: Draft, say: Say) -> None:
    await draft()
    await say("publish")
    await say("close")
    answer = await say("reopen", closes_at=_in(-HOUR))
    assert answer.status_code == 422
    assert (await say("archive")).json()["state"] == "archived"


async def test_a_petition_that_is_closed_as_soon_as_it_was_published_has_its_times_in_order(
    draft: Draft, say: Say
) -> None:
    await draft()
    await asyncio.gather(say("publish"), say("publish"), say("publish"))
    answers = await asyncio.gather(say("close"), say("close"), say("close"))
    assert {answer.status_code for answer in answers} == {200}
    petition = answers[0].json()
    assert petition["opens_at"] < petition["closes_at"]
    assert all(answer.json() == petition for answer in answers)


async def test_only_campaigners_say_the_verbs(client: httpx.AsyncClient, draft: Draft, analyst: Headers) -> None:
    await draft()
    for verb in ("publish", "close", "reopen", "archive"):
        assert (await client.post(f"{AT}/{verb}")).status_code == 401
        assert (await client.post(f"{AT}/{verb}", headers=analyst)).status_code == 403


async def test_the_sweep_writes_down_what_the_clock_has_decided_once(
    client: httpx.AsyncClient, database: Database, draft: Draft, let_pass: LetPass
) -> None:
    await draft("opens", opens_at=_in(HOUR))
    await draft("opens-and-closes", opens_at=_in(HOUR / 2), closes_at=_in(HOUR))
    await draft("stays-a-draft")
    await draft("opens-later", opens_at=_in(3 * HOUR))
    await let_pass(HOUR)
    told = {slug: (await client.get(f"/v1/petitions/{slug}")).json() for slug in ("opens", "opens-and-closes")}
    async with database.transaction() as session:
        turned = await apply_scheduled_transitions(session)
    assert {(page.slug, page.state) for page in turned} == {("opens", "open"), ("opens-and-closes", "closed")}
    async with database.transaction() as session:
        assert await apply_scheduled_transitions(session) == []
    for slug, before in told.items():
        assert (await client.get(f"/v1/petitions/{slug}")).json() == before


async def test_the_sweep_leaves_alone_what_somebody_is_changing(
    database: Database, draft: Draft, let_pass: LetPass
) -> None:
    await draft(opens_at=_in(HOUR))
    await let_pass(HOUR)
    async with database.transaction() as changing:
        await lock(changing, "repeal-the-act")
        async with database.transaction() as sweeping:
            assert await apply_scheduled_transitions(sweeping) == []


@pytest.mark.parametrize("state", ["draft", "archived"])
async def test_a_petition_opens_only_under_a_campaign_that_runs(
    client: httpx.AsyncClient,
    campaigner: Headers,
    campaign: str,
    draft: Draft,
    say: Say,
    database: Database,
    state: str,
) -> None:
    await draft()
    async with database.transaction() as session:
        await session.execute(update(Campaign).values(state=state))
    refused = await say("publish")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:multitude:problem:campaign-not-running")
    async with database.transaction() as session:
        await session.execute(update(Campaign).values(state="active"))
    assert (await say("publish")).status_code == 200
