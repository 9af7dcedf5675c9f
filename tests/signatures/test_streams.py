"""The live count: told at once, then whenever it changes, and ended as soon as the service ends."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from app.kit.database.session import Database
from app.settings import Settings
from app.signatures.reading import streams
from app.signatures.services import SigningServices
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import person
from tests.support.streams import StreamClient, open_stream

Sign = Callable[..., Awaitable[httpx.Response]]
AT = "/v1/petitions/end-the-ban/stream"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for new counts more often than is good for a database, so that nobody waits here."""
    monkeypatch.setattr(streams, "_POLL_SECONDS", 0.02)


def event(count: int, goal: int = 100) -> str:
    data = json.dumps({"signature_count": count, "signature_goal": goal}, separators=(",", ":"))
    return f"event: count\nid: {count}-{goal}\ndata: {data}\n\n"


async def heard_until(listener: StreamClient, wanted: str) -> None:
    while await listener.hear() != wanted:
        pass


async def test_a_stream_begins_with_the_count_and_follows_it(served: Any, sign: Sign) -> None:
    async with open_stream(served.app, AT) as listener:
        assert listener.status == 200
        assert listener.headers["content-type"].startswith("text/event-stream")
        assert listener.headers["cache-control"] == "no-store"
        assert listener.headers["x-accel-buffering"] == "no"
        for count in range(3):
            assert await listener.hear() == event(count)
            await sign(person(count))


async def test_who_comes_back_hears_only_what_is_new(served: Any, sign: Sign) -> None:
    await sign(person(1))
    async with open_stream(served.app, AT, {"Last-Event-ID": "1-100"}) as listener:
        await sign(person(2))
        assert await listener.hear() == event(2)
    async with open_stream(served.app, AT, {"Last-Event-ID": "1-100"}) as listener:
        assert await listener.hear() == event(2)
    async with open_stream(served.app, AT, {"Last-Event-ID": "no id of ours"}) as listener:
        assert await listener.hear() == event(2)


async def test_a_new_goal_is_heard(served: Any, sign: Sign, database: Database) -> None:
    async with open_stream(served.app, AT) as listener:
        assert await listener.hear() == event(0)
        await run(database, "UPDATE petitions SET signature_goal = 200")
        assert await listener.hear() == event(0, 200)


async def test_many_who_come_at_once_hear_the_same(served: Any, sign: Sign) -> None:
    async with AsyncExitStack() as stack:
        opened = [stack.enter_async_context(open_stream(served.app, AT)) for _ in range(25)]
        listeners = await asyncio.gather(*opened)
        for listener in listeners:
            assert await listener.hear() == event(0)
        await sign(person(1))
        assert {await listener.hear() for listener in listeners} == {event(1)}


async def test_the_count_of_another_process_is_heard(served: Any, sign: Sign, settings: Settings) -> None:
    async with serving(settings) as (_, _, other), open_stream(served.app, AT) as listener:
        assert await listener.hear() == event(0)
        assert (await other.post("/v1/petitions/end-the-ban/signatures", json=person(1))).status_code == 201
        assert await listener.hear() == event(1)


async def test_a_silent_stream_is_kept_alive(served: Any, sign: Sign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_KEEP_ALIVE_SECONDS", 0.05)
    async with open_stream(served.app, AT) as listener:
        assert await listener.hear() == event(0)
        for _ in range(2):
            assert (await listener.hear()).startswith(":")
        await sign(person(1))
        await heard_until(listener, event(1))


async def test_the_streams_end_with_the_service(served: Any, sign: Sign) -> None:
    async with open_stream(served.app, AT) as listener, open_stream(served.app, AT) as other:
        assert await listener.hear() == await other.hear() == event(0)
        served.api.state.services.of(SigningServices).streams.close()
        assert await listener.hear(1) == await other.hear(1) == ""


async def test_nobody_is_polled_for_once_all_have_left(served: Any, sign: Sign) -> None:
    room = served.api.state.services.of(SigningServices).streams
    async with open_stream(served.app, AT) as listener:
        await listener.hear()
        polling = room._polling
    async with asyncio.timeout(60):
        await polling
    assert room._channels == {}
    async with open_stream(served.app, AT) as listener:
        assert await listener.hear() == event(0)
        await sign(person(1))
        assert await listener.hear() == event(1)


async def test_a_database_in_trouble_does_not_end_the_streams(
    served: Any, sign: Sign, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubled = asyncio.Event()
    monkeypatch.setattr(streams.log, "warning", lambda *_, **__: troubled.set(), raising=False)
    async with open_stream(served.app, AT) as listener:
        assert await listener.hear() == event(0)
        await run(database, "ALTER TABLE signature_tallies RENAME TO out_of_reach")
        try:
            async with asyncio.timeout(60):
                await troubled.wait()
        finally:
            await run(database, "ALTER TABLE out_of_reach RENAME TO signature_tallies")
        await sign(person(1))
        await heard_until(listener, event(1))


async def test_an_unknown_petition_has_no_stream(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/petitions/unknown/stream")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_more_streams_than_a_process_feeds_are_told_to_come_back(sign: Sign, settings: Settings) -> None:
    async with serving(settings.model_copy(update={"stream_limit": 0})) as (_, _, client):
        answer = await client.get(f"{AT}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert answer.json()["type"] == "urn:multitude:problem:too-many-streams"
