"""A process that lost its lane believes nothing of it: counts are right a second later, whoever writes there now."""

from app.kit.database.session import Database
from app.settings import Settings
from app.signatures.reading.counts import Counts
from app.signatures.services import SigningServices
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import insert_petition, person

AT = "/v1/petitions/end-the-ban"


async def test_a_lane_that_changed_hands_misleads_nobody(settings: Settings, database: Database) -> None:
    petition_id = await insert_petition(database)
    async with serving(settings) as (api, _, first), serving(settings) as (_, _, second):
        for number in range(2):
            assert (await first.post(f"{AT}/signatures", json=person(number))).status_code == 201
        # A failover: every connection is gone, and the second process takes the first one's lane.
        await run(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'multitude hot%'",
        )
        for number in range(2, 22):
            assert (await second.post(f"{AT}/signatures", json=person(number))).status_code == 201
        assert await api.state.services.of(SigningServices).counts.refresh(petition_id) == 22


async def test_what_was_committed_after_a_read_began_is_laid_over_it(database: Database) -> None:
    petition_id = await insert_petition(database)
    counts = Counts(database)
    assert await counts.get(petition_id) == 0
    counts.committed(3, {petition_id: 5})
    assert counts.peek(petition_id) == 5
    assert await counts.refresh(petition_id) == 0
