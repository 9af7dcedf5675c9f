"""Exact tallies for staff: of a minute, the same in every process, and never of one signature alone."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from app.kit.database.session import Database
from app.petitions import queries
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import person
from tests.support.settings import settings_for
from tests.support.time_travel import age
from tests.support.types import Headers, Json

Sign = Callable[..., Awaitable[httpx.Response]]
AT = "/v1/petitions/end-the-ban/tally"
DIMENSIONS = ("country", "region", "source", "hour", "group", "event", "country_day")


async def look(client: httpx.AsyncClient, headers: Headers) -> dict[str, Json]:
    """Every breakdown."""
    told = {}
    for by in DIMENSIONS:
        view: Json = (await client.get(AT, params={"by": by}, headers=headers)).json()
        assert sum(row["signature_count"] for row in view["rows"]) == view["total"]
        told[by] = view
    return told


async def test_polling_does_not_show_which_facets_one_signer_has(
    client: httpx.AsyncClient, sign: Sign, database: Database, petition_id: UUID, analyst: Headers, url: str
) -> None:
    """The issue's example: who asked each second saw country, source and region of each signature move together."""
    for number in range(10):
        await sign(person(number))
    before = await look(client, analyst)
    await sign(person(100, "AQ", region="Kampala", source="letter"))
    async with serving(settings_for(url)) as another:
        for process in (client, another.client):
            assert await look(process, analyst) == before, "within the minute"
    await age(database, "minute_tallies", "taken_at", "2 minutes")
    later = await look(client, analyst)
    for by, view in later.items():
        assert view["rows"] == before[by]["rows"], "of one alone nothing is told in later minutes either"


@pytest.mark.parametrize(("more", "minutes"), [(5, 2), (1, 61)])
async def test_a_later_minute_is_exact_once_five_have_come_or_an_hour_is_over(
    client: httpx.AsyncClient,
    sign: Sign,
    database: Database,
    petition_id: UUID,
    analyst: Headers,
    more: int,
    minutes: int,
) -> None:
    await sign(person(0))
    await look(client, analyst)
    for number in range(1, 1 + more):
        await sign(person(number, "FR", source="letter"))
    assert (await look(client, analyst))["country"]["total"] == 1
    await age(database, "minute_tallies", "taken_at", f"{minutes} minutes")
    told = await look(client, analyst)
    assert {view["total"] for view in told.values()} == {1 + more}
    assert {view["as_of"] for view in told.values()} == {told["source"]["as_of"]}
    assert {row["key"]: row["signature_count"] for row in told["source"]["rows"]} == {None: 1, "letter": more}


async def test_all_staff_see_the_same_and_the_minute_is_told(
    client: httpx.AsyncClient, sign: Sign, database: Database, analyst: Headers, campaigner: Headers, owner: Headers
) -> None:
    await asyncio.gather(*(sign(person(number)) for number in range(7)))
    first = await look(client, analyst)
    await sign(person(100, "FR"))
    assert await look(client, campaigner) == await look(client, owner) == first
    async with database.transaction() as session:
        moment = await queries.moment(session)
    (taken_at,) = {row[0] for row in await run(database, "SELECT taken_at FROM minute_tallies")}
    assert (taken_at.second, taken_at.microsecond) == (0, 0)
    assert moment - taken_at < timedelta(minutes=2)


async def test_two_who_ask_at_once_are_told_the_same(
    client: httpx.AsyncClient, sign: Sign, analyst: Headers, url: str
) -> None:
    await asyncio.gather(*(sign(person(number)) for number in range(7)))
    async with serving(settings_for(url)) as another:
        asked = [process.get(AT, params={"by": "country"}, headers=analyst) for process in (client, another.client) * 5]
        answers = await asyncio.gather(*asked)
    assert len({answer.text for answer in answers}) == 1
