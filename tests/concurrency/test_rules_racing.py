"""What happens in the very moment in which the worker looks at a signature."""

import asyncio
from uuid import UUID

import httpx

from app.kit.database.session import Database, committing
from app.settings import Settings
from app.signatures.background import consents, runner
from app.signatures.engine.confirm import confirm
from app.signatures.engine.scan import ScanProgress
from app.signatures.engine.transitions import Confirmation
from tests.support.application import services_for
from tests.support.databases import run
from tests.support.factories import person
from tests.support.invalidations import change_state, claimed_lane, draft_invalidation, prepared_signing, sign_all
from tests.support.settings import RING
from tests.support.signing_engine import wait_for_blocked
from tests.support.tallies import exact_counts
from tests.support.types import Headers

LANES_TAKEN = f"""
    SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.classid = {0x6C616E65} AND l.granted
"""
GIVEN = [{"organization": "movement", "given": True}]


async def test_whoever_confirms_with_a_consent_while_personal_data_is_destroyed_is_not_overlooked(
    database: Database, petition_id: UUID
) -> None:
    late = prepared_signing(petition_id, person(1, consents=GIVEN))
    await sign_all(database, [late])
    # As if it had to be confirmed by mail, and the petition had closed meanwhile.
    await run(database, "UPDATE signatures SET state = 'pending'")
    await run(database, "DELETE FROM signature_tallies")
    await run(database, "UPDATE petitions SET state = 'closed', personal_data_until = current_date")
    async with claimed_lane(database) as destroying, claimed_lane(database) as confirming:
        async with committing(confirming.connection):
            await confirm(confirming, [Confirmation(*late[:3], accepted=1)])
            working = asyncio.create_task(runner.run_chunk(destroying, RING, progress := ScanProgress()))
            await wait_for_blocked(confirming.connection)
        assert await working
        assert await run(database, "SELECT personal_data_destroyed_at FROM petitions") == [(None,)]
        # Until the consent is entered nothing is done; then it is a reason to keep them.
        assert not await runner.run_chunk(destroying, RING, progress)
        async with database.transaction() as session:
            assert await consents.ConsentRecorder(RING)(session) == [late.signer]
        while await runner.run_chunk(destroying, RING, progress):
            continue
    assert (await run(database, "SELECT personal_data_destroyed_at IS NOT NULL FROM petitions"))[0][0]
    assert (await run(database, "SELECT signer, octet_length(sealed) > 0 FROM signatures")) == [(late.signer, True)]
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_a_worker_whose_connection_is_lost_goes_on_with_another_and_keeps_none_when_all_is_done(
    client: httpx.AsyncClient, database: Database, settings: Settings, petition_id: UUID, campaigner: Headers
) -> None:
    await sign_all(database, [prepared_signing(petition_id, person(n, ("UG", "FR")[n % 2])) for n in range(10)])
    view = await draft_invalidation(client, campaigner, countries=["UG"])
    await change_state(client, campaigner, view, "apply")
    ending = asyncio.Event()
    own = Database(settings.database_url.get_secret_value(), name="jobs")
    async with claimed_lane(database) as holding:
        async with committing(holding.connection):
            await holding.connection.execute("LOCK TABLE signatures IN EXCLUSIVE MODE")
            quick = settings.model_copy(update={"sweep_seconds": 0.05})
            working = asyncio.create_task(runner.work(services_for(own, quick), ending))
            (pid,) = await wait_for_blocked(holding.connection)
            await holding.connection.execute("SELECT pg_terminate_backend($1)", pid)
        async with asyncio.timeout(60):
            while await run(database, "SELECT 1 FROM invalidations WHERE state = 'applying'"):
                continue
            while await run(database, LANES_TAKEN) != [(1,)]:
                continue
        ending.set()
        await working
    await own.close()
    assert await exact_counts(database) == {"end-the-ban": 5}
