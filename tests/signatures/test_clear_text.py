"""Nobody's free text stands in clear: what is on no list is sealed and tallied as `other`, on every way in."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from app.commands.imports import _import
from app.kit.database.session import Database
from app.settings import Settings
from app.signatures.me.service import SignatureStore
from app.signatures.signing.sealing import unseal
from tests.support.application import services_for
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.settings import RING

SECRET_REGION, SECRET_SOURCE = "Amina of Kololo", "tell-amina-at-7"
ALLOWED = {"allowed_regions": ["Nairobi West"], "allowed_sources": ["spring-2026"]}

Sign = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def petition_id(database: Database) -> UUID:
    return await insert_petition(database, **ALLOWED)


async def in_clear(database: Database) -> list[tuple[str, str]]:
    return [tuple(row) for row in await run(database, "SELECT region, source FROM signatures ORDER BY signed_at, id")]


async def sealed(database: Database) -> list[tuple[str, str]]:
    rows = await run(database, "SELECT petition_id, signer, sealed FROM signatures ORDER BY signed_at, id")
    opened = [unseal(RING, row[0], row[1], row[2]) for row in rows]
    return [(one.unlisted_region, one.unlisted_source) for one in opened]


@pytest.mark.parametrize(
    ("region", "source", "clear", "hidden"),
    [
        (SECRET_REGION, SECRET_SOURCE, ("other", "other"), (SECRET_REGION, SECRET_SOURCE)),
        ("kampala", "News_Letter", ("Kampala", "newsletter"), ("", "")),
        ("NAIROBI-west", "Spring2026", ("Nairobi West", "spring-2026"), ("", "")),
        ("other", "other", ("other", "other"), ("", "")),
        (None, None, ("", ""), ("", "")),
        ("-", ".", ("other", "other"), ("-", ".")),
    ],
)
async def test_what_is_listed_stays_and_all_else_is_sealed(
    sign: Sign,
    database: Database,
    region: str | None,
    source: str | None,
    clear: tuple[str, str],
    hidden: tuple[str, str],
) -> None:
    assert (await sign(person(1, region=region, source=source))).status_code == 201
    assert await in_clear(database) == [clear]
    assert await sealed(database) == [hidden]
    tallied = {row[0] for row in await run(database, "SELECT key FROM signature_tallies WHERE signature_count > 0")}
    assert not tallied & {SECRET_REGION, SECRET_SOURCE, f"UG/{SECRET_REGION}"}


async def test_an_import_seals_it_too(
    database: Database, settings: Settings, petition_id: UUID, tmp_path: Path
) -> None:
    lines = [
        person(1, region=SECRET_REGION, source=SECRET_SOURCE, signed_at="2026-01-01T00:00:00Z"),
        person(2, region="Gulu", source="spring-2026", signed_at="2026-01-02T00:00:00Z"),
    ]
    file = tmp_path / "paper.ndjson"
    file.write_text("\n".join(map(json.dumps, lines)))
    await _import(settings, file, "end-the-ban", tmp_path / "refused.csv")
    assert await in_clear(database) == [("other", "other"), ("Gulu", "spring-2026")]
    assert await sealed(database) == [(SECRET_REGION, SECRET_SOURCE), ("", "")]


async def test_a_dump_names_nobody_and_a_person_takes_along_what_was_said(
    sign: Sign, database: Database, settings: Settings
) -> None:
    await sign(person(1, region=SECRET_REGION, source=SECRET_SOURCE))
    dump = str([tuple(row) for row in await run(database, "SELECT * FROM signatures")])
    assert SECRET_REGION not in dump
    assert SECRET_SOURCE not in dump
    async with database.transaction() as session:
        (own,) = await SignatureStore(services_for(database, settings)).export(
            session, RING, RING.digest("person.1@example.org")
        )
    assert (own["region"], own["source"]) == ("other", "other")
    assert (own["unlisted_region"], own["unlisted_source"]) == (SECRET_REGION, SECRET_SOURCE)


@pytest.mark.parametrize(("region", "longer"), [("kampala", 0), (None, 0), (SECRET_REGION, 1)])
async def test_another_spelling_costs_no_byte(sign: Sign, database: Database, region: str | None, longer: int) -> None:
    await sign(person(1, region="Kampala"))
    await sign(person(2, region=region))
    sizes = [row[0] for row in await run(database, "SELECT octet_length(sealed) FROM signatures ORDER BY signed_at")]
    assert (sizes[1] > sizes[0]) == bool(longer)
