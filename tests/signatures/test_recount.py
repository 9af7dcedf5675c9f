"""A tally is worked out twice, in Python as people sign and in SQL for the recount: both agree on any row."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.kit.database.session import Connection, Database, committing
from app.settings import Settings
from app.signatures.dimensions import NAMES, TallyKeys, alike, keys_of
from app.signatures.engine.tallies import apply_deltas, deltas_of
from app.signatures.reading.recount import Difference, differences
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.tallies import exact_counts

# What a region may hold, with what could be mistaken for a separator of ours.
REGION = st.one_of(st.just(""), st.text(alphabet="aAéß李 ./()&-,'\u20190", min_size=1, max_size=12))
# Hypothesis asks for naive bounds and adds the zone itself.
EARLIEST, LATEST = datetime(1990, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001
MOMENT = st.one_of(
    st.datetimes(EARLIEST, LATEST, timezones=st.just(UTC)),
    st.sampled_from(
        [
            datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
            datetime(2025, 1, 1, tzinfo=UTC),
            datetime(2025, 3, 30, 1, tzinfo=UTC),
        ]
    ),
)
TALLY_KEYS = st.builds(
    TallyKeys,
    country=st.sampled_from(["UG", "FR", "DE"]),
    region=REGION,
    source=st.sampled_from(["", "-", "a.b_c", "other"]),
    group_id=st.one_of(st.none(), st.uuids()),
    event_id=st.one_of(st.none(), st.just(UUID(int=7))),
    signed_at=MOMENT,
)
_INSERT = """
    INSERT INTO signatures
        (petition_id, signer, id, country, region, source, group_id, event_id, signed_at, state, sealed)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '')
"""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    connection = await database.pin()
    yield connection
    await connection.close()


async def put(connection: Connection, petition_id: UUID, rows: list[TallyKeys], state: str) -> None:
    given = [(petition_id, uuid4().bytes, uuid4(), *keys, state) for keys in rows]
    await connection.executemany(_INSERT, given)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    confirmed=st.lists(TALLY_KEYS, max_size=12), withdrawn=st.lists(TALLY_KEYS, max_size=3), lane=st.integers(0, 255)
)
async def test_the_recount_agrees_with_what_was_tallied(
    database: Database, connection: Connection, confirmed: list[TallyKeys], withdrawn: list[TallyKeys], lane: int
) -> None:
    petition_id = uuid4()
    async with committing(connection):
        await put(connection, petition_id, confirmed, "confirmed")
        await put(connection, petition_id, withdrawn, "withdrawn")
        gone = [(keys, -1) for keys in withdrawn]
        changes = [*((keys, 1) for keys in [*confirmed, *withdrawn]), *gone]
        totals = await apply_deltas(connection, lane, {petition_id}, ((petition_id, *change) for change in changes))
    assert totals == {petition_id: len(confirmed)}
    async with database.transaction() as session:
        assert await differences(session, petition_id) == []


@given(TALLY_KEYS)
def test_a_signature_counts_under_one_key_of_each_dimension(keys: TallyKeys) -> None:
    assert tuple(dimension for dimension, _ in keys_of(alike(keys))) == NAMES


@given(st.lists(st.tuples(TALLY_KEYS, st.sampled_from([1, 0, -1])), max_size=20))
def test_moves_are_the_sum_of_their_changes(changes: list[tuple[TallyKeys, int]]) -> None:
    expected: dict[tuple[str, str], int] = {("total", ""): 0}
    for keys, change in changes:
        for key in keys_of(alike(keys)):
            expected[key] = expected.get(key, 0) + change
    assert deltas_of(changes) == expected


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (
            "UPDATE signature_tallies SET signature_count = 7 WHERE dimension = 'country'",
            [Difference("country", "UG", 1, 7)],
        ),
        ("DELETE FROM signature_tallies WHERE dimension = 'source'", [Difference("source", "", 1, 0)]),
        (
            "INSERT INTO signature_tallies SELECT petition_id, 'total', '', 99, 1 FROM signatures",
            [Difference("total", "", 1, 2)],
        ),
    ],
)
async def test_the_recount_finds_what_is_wrong(
    database: Database, settings: Settings, damage: str, found: list[Difference]
) -> None:
    petition_id = await insert_petition(database)
    async with serving(settings) as (_, _, client):
        await client.post("/v1/petitions/end-the-ban/signatures", json=person(1))
    assert await exact_counts(database) == {"end-the-ban": 1}
    await run(database, damage)
    async with database.transaction() as session:
        assert await differences(session, petition_id) == found
