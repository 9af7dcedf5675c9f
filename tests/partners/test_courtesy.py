"""Courtesy: whatever a partner posts, others are not kept waiting by it, nor kept out."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.kit.database.group_commit import QueueFull
from app.kit.database.session import Database
from app.kit.web.large_bodies import SMALL
from app.partners.inbound.fair_share import LARGE_AT_ONCE, LARGE_WAITING, SMALL_AT_ONCE, SMALL_WAITING
from app.partners.inbound.idempotency import Webhook
from app.partners.inbound.services import InboundServices
from app.settings import Settings
from tests.support.application import serving
from tests.support.databases import run, wait_until
from tests.support.foreign_payloads import ACTION_NETWORK, new_secret
from tests.support.partner_posts import LINES, Poster, item, lines, signed
from tests.support.partners import PETITION, Partner
from tests.support.tallies import exact_counts

JSON = "application/json"
MEBIBYTE = 1024 * 1024
CLAIMED = "SELECT id FROM received_webhooks"


@pytest.fixture
def poster(client: httpx.AsyncClient, partnership: Partner) -> Poster:
    return Poster(client, partnership)


def _list_of(unit: bytes, size: int) -> bytes:
    return b"[" + b",".join([unit] * (size // (len(unit) + 1))) + b"]"


@asynccontextmanager
async def _gaps() -> AsyncIterator[list[float]]:
    """Seconds of this thread's own work between two turns of whoever else is in the loop."""
    gaps: list[float] = []

    async def watch() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            gaps.append(time.thread_time() - before)

    watching = asyncio.create_task(watch())
    try:
        yield gaps
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


KEYS = b"{" + b",".join(b'"%x":0' % number for number in range(3_000)) + b"}"
HOSTILE = {
    "an item of brackets": (b"[" + _list_of(b"{}", 16 * MEBIBYTE - 2) + b"]", JSON, 413),
    "an item of strings": (b"[" + _list_of(b'""', 16 * MEBIBYTE - 2) + b"]", JSON, 413),
    "an item that is one string": (b'["' + rb"\"" * (8 * MEBIBYTE - 2) + b'"]', JSON, 413),
    "lines of brackets": (b"\n".join([b'{"a":' + _list_of(b"{}", 120_000) + b"}"] * 130), LINES, 200),
    "lines of as many as may be": (b"\n".join([b'{"a":' + _list_of(b"{}", 1_400) + b"}"] * 1_500), LINES, 200),
    "lines of keys": (b"\n".join([KEYS] * 130), LINES, 200),
    "consents that are none": (b"\n".join([b'{"consents":' + _list_of(b"0", 30_000) + b"}"] * 130), LINES, 200),
    "an object of keys": (b"{" + b",".join(b'"%x":0' % number for number in range(13_500)) + b"}", JSON, 200),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_made_to_keep_others_waiting_does_not(poster: Poster, database: Database, name: str) -> None:
    body, media_type, status = HOSTILE[name]
    packed = gzip.compress(body, 1)
    headers = signed(poster.partner.secret, body) | {"content-encoding": "gzip"}
    async with _gaps() as gaps:
        answer = await poster.send(packed, headers, media_type)
    assert answer.status_code == status, answer.text
    # Measured are 10 to 30 milliseconds.
    assert max(gaps) < 0.5
    assert await exact_counts(database) == {PETITION: 0}


@pytest.mark.parametrize("name", [name for name, (_, media_type, _) in HOSTILE.items() if media_type == JSON])
async def test_nor_does_it_where_others_post(
    client: httpx.AsyncClient, database: Database, settings: Settings, partnership: Partner, name: str
) -> None:
    token = await new_secret(database, settings, partnership, "action_network")
    body, _, _ = HOSTILE[name]
    async with _gaps() as gaps:
        answer = await client.post(f"{ACTION_NETWORK}/{token}", content=body, headers={"content-type": JSON})
    assert 400 <= answer.status_code < 500, answer.text
    assert max(gaps) < 0.5
    assert await exact_counts(database) == {PETITION: 0}


async def test_one_item_too_large_in_an_array_costs_no_other(poster: Poster, database: Database) -> None:
    large = item(2, comment="x" * 100_000)
    answer = await poster.post(json.dumps([item(1), large, item(3)]).encode(), JSON)
    told = answer.json()
    assert [result["status"] for result in told["results"]] == ["counted", "refused", "counted"]
    assert told["results"][1]["problem"]["status"] == 413
    assert await exact_counts(database) == {PETITION: 2}


async def test_the_longest_signature_that_is_one_is_not_too_large(poster: Poster, database: Database) -> None:
    words = [{"organization": f"others-{number}", "given": False, "page": "a.org/" + "x" * 80} for number in range(20)]
    longest = item(1, given_name="\u1820" * 100, family_name="\u1820" * 100, comment="\u1820" * 2_000, consents=words)
    answer = await poster.post(json.dumps([longest, item(2)]).encode(), JSON)
    first, second = answer.json()["results"]
    assert first["problem"]["type"].endswith("consent-not-in-terms")
    assert second["status"] == "counted"


@pytest.mark.parametrize(
    ("size", "working", "waiting"), [(SMALL, SMALL_AT_ONCE, SMALL_WAITING), (SMALL + 1, LARGE_AT_ONCE, LARGE_WAITING)]
)
async def test_so_many_posts_are_taken_at_once_and_one_more_is_asked_to_come_again(
    settings: Settings, partnership: Partner, database: Database, size: int, working: int, waiting: int
) -> None:
    async with serving(settings) as (api, _, client), AsyncExitStack() as held:
        places = api.state.services.of(InboundServices).fair_share.admission(size)
        poster = Poster(client, partnership)
        for _ in range(working):
            await held.enter_async_context(places.slots)
        for _ in range(working + waiting - 3):
            places.enter()
            held.callback(places.leave)
        posts = [asyncio.create_task(poster.post(lines(item(number)).ljust(size))) for number in range(3)]
        # All three are claimed, and wait.
        await wait_until(database, f"SELECT count(*) = 3 FROM ({CLAIMED}) AS claimed")
        refused = await poster.post(lines(item(9_999)).ljust(size))
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:multitude:problem:queue-full")
        assert refused.headers["retry-after"]
        # Who is refused has cost no claim, and those of another size have places of their own.
        assert len(await run(database, CLAIMED)) == 3
        other = lines(item(9_998)).ljust(SMALL + 1 if size == SMALL else SMALL)
        assert (await poster.post(other)).json()["counted"] == 1
        await held.aclose()
        answers = await asyncio.gather(*posts)
        assert {answer.json()["counted"] for answer in answers} == {1}


async def test_a_crowd_of_small_posts_is_taken(poster: Poster, database: Database) -> None:
    answers = await asyncio.gather(*(poster.post(lines(item(number))) for number in range(40)))
    assert {answer.json().get("counted") for answer in answers} == {1}
    assert await exact_counts(database) == {PETITION: 40}


def test_the_guides_name_the_places_there_are() -> None:
    docs = Path(__file__).parents[2] / "docs"
    partners, operations = (" ".join((docs / name).read_text().split()) for name in ("partners.md", "operations.md"))
    small = SMALL_AT_ONCE + SMALL_WAITING
    assert f"of up to 64 KiB {small}, of larger ones {LARGE_AT_ONCE + LARGE_WAITING}" in partners
    assert f"{LARGE_AT_ONCE} large posts are worked on at once and {LARGE_WAITING} more wait" in operations
    assert f"for those of up to 64 KiB there are {small} places" in operations


async def test_what_is_still_worked_on_is_still_accounted_for(served: Any, partnership: Partner) -> None:
    desk, ended = served.api.state.services.of(InboundServices), asyncio.Event()

    async def bring(_received: Webhook) -> bytes:
        await ended.wait()
        return b"{}"

    with desk.bodies.reserve() as share:
        share.assign_to(partnership.organization_id)
        share.take(MEBIBYTE)
        receiving = desk.receiver.receive(partnership.organization_id, "x:1", b"digest", bring, share)
        # Whoever is gone has not ended it.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receiving, 0.1)
    assert desk.bodies.reserved == MEBIBYTE - SMALL
    ended.set()
    again = await desk.receiver.receive(partnership.organization_id, "x:1", b"digest", bring)
    assert (again, desk.bodies.reserved) == (b"{}", 0)


async def test_a_crowd_of_large_bodies_keeps_neither_small_ones_nor_other_partners_out(
    settings: Settings, partnership: Partner
) -> None:
    async with serving(settings.model_copy(update={"partner_max_body_bytes": MEBIBYTE})) as (api, _, client):
        bodies, poster = api.state.services.of(InboundServices).bodies, Poster(client, partnership)
        large = lines(item(1)).ljust(MEBIBYTE)
        with bodies.reserve() as share, bodies.reserve() as of_others:
            of_others.assign_to("somebody else")
            of_others.take(SMALL + bodies.most // 4)
            with pytest.raises(QueueFull):
                of_others.take(1)
            assert (await poster.post(large)).json()["counted"] == 1
            share.assign_to(partnership.organization_id)
            share.take(SMALL + bodies.most // 4)
            answer = await poster.post(large)
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:multitude:problem:queue-full")
            assert (await poster.post(lines(item(2)))).json()["counted"] == 1
        assert (await poster.post(large)).status_code == 200
        assert bodies.reserved == 0


@pytest.mark.parametrize("who", ["nobody", "movement", "without-secrets"])
async def test_of_what_nobody_can_have_signed_nothing_is_held(
    settings: Settings, partnership: Partner, database: Database, who: str
) -> None:
    if who == "without-secrets":
        await run(database, "UPDATE webhook_secrets SET revoked_at = now()")
        who = partnership.slug
    async with serving(settings) as (api, _, client):
        bodies, sent = api.state.services.of(InboundServices).bodies, asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield bytes(MEBIBYTE)
            await sent.wait()
            yield b"\n"

        headers = signed(partnership.secret, b"") | {"content-type": LINES}
        posting = asyncio.create_task(client.post(f"/v1/partners/{who}/signatures", content=slowly(), headers=headers))
        while not bodies._reserved_by:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)
        assert bodies.reserved == 0
        sent.set()
        assert (await posting).status_code == 401
        assert not bodies._reserved_by
