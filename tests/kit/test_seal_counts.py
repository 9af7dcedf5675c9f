"""Every seal is counted, by key, over all processes; and whoever runs the service is told when a key has had enough."""

import httpx
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.kit.crypto import seal_counts
from app.kit.crypto.seal_counts import OVERDUE_AT, RENEW_AT, sealed_by_current
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.settings import Settings
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import insert_petition, person

SECRET = "wNqT4yq0yO3nF1bGm8cZ2vK7xU5hR9sE"


async def counts(database: Database, ring: KeyRing) -> dict[str, int]:
    async with database.transaction() as session:
        return dict(await sealed_by_current(session, ring))


def test_each_seal_counts_for_its_key_and_opening_for_none() -> None:
    ring = KeyRing.parse(SECRET)
    sealed, token = ring.seal(b"Amina", b"row"), ring.seal_token(b"Amina", b"token")
    ring.seal(b"Bilal", b"row")
    ring.open(sealed, b"row")
    ring.open_token(token, b"token")
    assert ring.seals == {("row", ring.current_id): 2, ("token", ring.token_id): 1}


async def test_processes_are_added_up_and_a_new_key_begins_anew(database: Database) -> None:
    one, other = KeyRing.parse(SECRET), KeyRing.parse(SECRET)
    for ring in (one, other, one):
        for _ in range(10):
            ring.seal_token(b"Amina", b"token")
        await seal_counts.save(ring, database)
        await seal_counts.save(ring, database)
    assert await counts(database, one) == {"row": 0, "token": 30}
    renewed = KeyRing.parse(SECRET, None, f"{SECRET[::-1]},{SECRET}")
    assert await counts(database, renewed) == {"row": 0, "token": 0}


async def test_what_could_not_be_saved_is_counted_the_next_time(database: Database) -> None:
    ring = KeyRing.parse(SECRET)
    ring.seal(b"Amina", b"row")
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with capture_logs() as logs:
        await seal_counts.save(ring, nowhere)
    await nowhere.close()
    assert [entry["event"] for entry in logs] == ["seals could not be counted"]
    ring.seal(b"Amina", b"row")
    await seal_counts.save(ring, database)
    assert (await counts(database, ring))["row"] == 2


@pytest.mark.parametrize(("at", "is_told"), [(RENEW_AT - 1, False), (RENEW_AT, True), (OVERDUE_AT, True)])
async def test_the_log_tells_when_a_key_is_to_be_renewed(database: Database, at: int, is_told: bool) -> None:
    ring = KeyRing.parse(SECRET)
    ring.seals["token", ring.token_id] = at
    with capture_logs() as logs:
        await seal_counts.save(ring, database)
    told = [entry for entry in logs if entry["event"] == "a key has sealed too often: renew it"]
    assert [(entry["purpose"], entry["seals"]) for entry in told] == ([("token", at)] if is_told else [])


async def test_the_service_counts_what_signing_seals(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal_counts, "_FEW", 1)
    await insert_petition(database)
    ring = settings.key_ring
    ring.seals.clear()
    async with serving(settings) as served:
        for number in (1, 2, 2):
            answer: httpx.Response = await served.client.post(
                "/v1/petitions/end-the-ban/signatures", json=person(number)
            )
            assert answer.status_code == 201
    # A row and a receipt for each attempt, a duplicate's too; and a day's salt, if this was the first of its day.
    found = await counts(database, ring)
    assert (found["row"] in {3, 4}, found["token"]) == (True, 3)
    assert len(await run(database, str(text("SELECT * FROM key_seals")))) == 2
