"""Breakdowns: exact for staff, folded for the public, and always the sum of their parts."""

import csv
import io
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import get_args
from uuid import UUID, uuid4

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.petitions.clear_text import KNOWN_SOURCES, ClearText
from app.signatures.engine import insert
from app.signatures.engine.signings import Origin
from app.signatures.reading.breakdown import fold
from app.signatures.schemas import DimensionName, TallyRow, TallyView
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.invalidations import claimed_lane, prepared_signing
from tests.support.types import Json

Headers = dict[str, str]
Sign = Callable[..., Awaitable[httpx.Response]]
AT = "/v1/petitions/end-the-ban/tally"
GROUP, EVENT = uuid4(), uuid4()
STAFF_ONLY = set(get_args(DimensionName)) - {"country", "hour"}

CROWD = [
    *(person(n, "UG", region="Kampala", source="-2-3", referral=f"group:{GROUP}") for n in range(7)),
    *(person(n, "UG", region="Gulu") for n in range(7, 12)),
    *(person(n, "FR", source="letter", referral=f"event:{EVENT}") for n in range(12, 16)),
    *(person(n, "DE", region="Berlin") for n in range(16, 19)),
    *(person(n, "KE") for n in range(19, 20)),
]
COUNTRIES = {"UG": 12, "FR": 4, "DE": 3, "KE": 1}


@pytest.fixture
async def petition_id(database: Database) -> UUID:
    """A petition whose signatures are proven."""
    return await insert_petition(database, confirmation="email", allowed_sources=["-2-3"])


@pytest.fixture
async def crowd(database: Database, petition_id: UUID) -> None:
    """Twenty people from four countries have signed on paper."""
    clear_text = ClearText(sources=KNOWN_SOURCES | {"23": "-2-3"})
    signings = [prepared_signing(petition_id, body, clear_text=clear_text) for body in CROWD]
    async with claimed_lane(database) as lane:
        await insert.sign(lane, signings, Origin.IMPORT)


def rows_of(answer: httpx.Response) -> dict[str | None, int]:
    view: Json = answer.json()
    rows = {row["key"]: row["signature_count"] for row in view["rows"]}
    assert sum(rows.values()) == view["total"] == 20
    assert len(rows) == len(view["rows"])
    return rows


async def test_the_public_sees_countries_with_small_ones_folded(client: httpx.AsyncClient, crowd: None) -> None:
    answer = await client.get(AT, params={"by": "country"})
    assert list(rows_of(answer).items()) == [("UG", 12), ("other", 8)]
    assert set(answer.json()) == {"by", "total", "rows", "as_of"}
    assert answer.headers["cache-control"].startswith("public")
    assert {"Accept", "Authorization"} <= {name.strip() for name in answer.headers["vary"].split(",")}


async def test_the_public_sees_the_hours(client: httpx.AsyncClient, crowd: None) -> None:
    rows = rows_of(await client.get(AT, params={"by": "hour"}))
    hours = [datetime.fromisoformat(str(key)) for key in rows if key != "other"]
    assert all(0 <= (now() - hour).total_seconds() < 7300 for hour in hours)


async def test_staff_see_every_dimension_exactly(client: httpx.AsyncClient, crowd: None, analyst: Headers) -> None:
    expected: dict[str, dict[str | None, int]] = {
        "country": dict(COUNTRIES),
        "region": {"UG/Kampala": 7, "UG/Gulu": 5, "DE/Berlin": 3, None: 5},
        "source": {"-2-3": 7, "letter": 4, None: 9},
        "group": {str(GROUP): 7, None: 13},
        "event": {str(EVENT): 4, None: 16},
    }
    for by, rows in expected.items():
        answer = await client.get(AT, params={"by": by}, headers=analyst)
        assert rows_of(answer) == rows
        assert answer.headers["cache-control"] == "private, no-store"
    days = rows_of(await client.get(AT, params={"by": "country_day"}, headers=analyst))
    by_country: Counter[str] = Counter()
    for key, counted in days.items():
        by_country[str(key).split(" ")[0]] += counted
    assert by_country == COUNTRIES
    rows_of(await client.get(AT, params={"by": "hour"}, headers=analyst))


async def test_each_role_sees_what_it_may(
    client: httpx.AsyncClient,
    sign: Sign,
    owner: Headers,
    campaigner: Headers,
    analyst: Headers,
    data_officer: Headers,
) -> None:
    for by in get_args(DimensionName):
        public = await client.get(AT, params={"by": by})
        assert (by, public.status_code) == (by, 401 if by in STAFF_ONLY else 200)
        for staff in (owner, campaigner, analyst, data_officer):
            assert (await client.get(AT, params={"by": by}, headers=staff)).status_code == 200
    assert (await client.get(AT, params={"by": "source"})).headers["www-authenticate"] == "Bearer"
    wrong = {"authorization": "Bearer nothing"}
    assert (await client.get(AT, params={"by": "country"}, headers=wrong)).status_code == 401


async def test_a_partner_sees_what_the_public_sees(
    client: httpx.AsyncClient, crowd: None, owner: Headers, make_key: Callable[..., Awaitable[Headers]]
) -> None:
    body = {"slug": "a-partner", "name": "A partner"}
    assert (await client.post("/v1/organizations", json=body, headers=owner)).status_code == 201
    partner = await make_key("partner", "a-partner")
    assert rows_of(await client.get(AT, params={"by": "country"}, headers=partner)) == {"UG": 12, "other": 8}
    for by in STAFF_ONLY:
        assert (await client.get(AT, params={"by": by}, headers=partner)).status_code == 403


async def test_an_unknown_dimension_or_petition_is_a_problem(
    client: httpx.AsyncClient, sign: Sign, analyst: Headers, database: Database
) -> None:
    for query in ({}, {"by": "signer"}, {"by": "total"}, {"by": ""}, {"by": "country'; --"}):
        for headers in ({}, analyst):
            assert (await client.get(AT, params=query, headers=headers)).status_code == 422
    await insert_petition(database, "draft", state="draft", opens_at=None)
    for slug in ("unknown", "draft"):
        assert (await client.get(f"/v1/petitions/{slug}/tally?by=country")).status_code == 404
    assert (await client.get("/v1/petitions/draft/tally?by=country", headers=analyst)).json()["total"] == 0


async def test_a_breakdown_as_csv_is_safe_in_a_spreadsheet(
    client: httpx.AsyncClient, crowd: None, analyst: Headers
) -> None:
    answer = await client.get(AT, params={"by": "source"}, headers=analyst | {"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["cache-control"] == "private, no-store"
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["source", "signature_count"],
        ["", "9"],
        ["'-2-3", "7"],
        ["letter", "4"],
    ]
    public = await client.get(AT, params={"by": "country"}, headers={"accept": "text/csv;q=1, */*;q=0.1"})
    assert public.text.splitlines() == ["country,signature_count", "UG,12", "other,8"]
    assert "Accept" in public.headers["vary"]
    assert public.headers["cache-control"].startswith("public")


async def test_a_withdrawn_signature_leaves_every_breakdown(
    client: httpx.AsyncClient, sign: Sign, analyst: Headers, database: Database
) -> None:
    await run(database, "UPDATE petitions SET confirmation = 'none'")
    told = (await sign(person(1, region="Kampala"))).json()
    await sign(person(2, "FR"))
    await client.post(told["links"]["withdraw"], json={"receipt": told["receipt"]})
    answer = await client.get(AT, params={"by": "region"}, headers=analyst)
    assert answer.json()["rows"] == [{"key": None, "signature_count": 1}]
    answer = await client.get(AT, params={"by": "country"}, headers=analyst)
    assert answer.json()["rows"] == [{"key": "FR", "signature_count": 1}]


async def test_who_has_a_breakdown_is_told_nothing_new(client: httpx.AsyncClient, crowd: None) -> None:
    etag = (await client.get(AT, params={"by": "country"})).headers["etag"]
    answer = await client.get(AT, params={"by": "country"}, headers={"if-none-match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_folding_keeps_the_sum_and_singles_nobody_out() -> None:
    rows = [TallyRow(key=key, signature_count=counted) for key, counted in [("A", 9), ("B", 5), ("C", 4), (None, 2)]]
    view = fold(TallyView(by="country", total=20, rows=rows, as_of=now()))
    assert [(row.key, row.signature_count) for row in view.rows] == [("A", 9), ("B", 5), ("other", 6)]
    whole = fold(TallyView(by="country", total=14, rows=rows[:2], as_of=now()))
    assert whole.rows == rows[:2]


async def test_nobody_has_signed(client: httpx.AsyncClient, petition_id: UUID) -> None:
    answer = await client.get(AT, params={"by": "country"})
    assert (answer.json()["total"], answer.json()["rows"]) == (0, [])
