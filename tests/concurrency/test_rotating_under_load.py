"""Keys rotate while people sign and withdraw, and whatever is killed: nothing sealed is lost, no receipt expires."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from app.kit.crypto import key_rotation
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database, committing
from app.signatures import service
from app.signatures.engine import insert
from app.signatures.engine.lanes import Lane
from app.signatures.key_rotation import SIGNATURES
from app.signatures.services import SigningServices
from app.signatures.signing.sealing import unseal, write_receipt
from tests.support.databases import run
from tests.support.factories import people_like, person
from tests.support.services import ROOT, command, environment, multitude
from tests.support.settings import SECRET_KEYS as OLD
from tests.support.signing_engine import commit_failures, deadlocks, prepared, sign, wait_for_blocked
from tests.support.tallies import exact_counts

NEW = "a-new-secret-that-is-only-for-tests-02"
BOTH = f"{NEW},{OLD}"
ALONE = KeyRing.parse(NEW, OLD)
OpenRotated = Callable[..., Awaitable[SigningServices]]


@pytest.fixture
def open_rotated(open_room: Callable[..., Awaitable[SigningServices]]) -> OpenRotated:
    """Open a hot room as a process with these keys would."""

    async def make(secret_keys: str, digest_key: str | None = None) -> SigningServices:
        kept = SecretStr(digest_key) if digest_key else None
        return await open_room(secret_keys=SecretStr(secret_keys), digest_key=kept)

    return make


async def sealed_rows(database: Database) -> list[Any]:
    return await run(
        database, "SELECT petition_id, signer, sealed, id FROM signatures WHERE sealed <> '' ORDER BY 1, 2"
    )


async def emails(database: Database, ring: KeyRing = ALONE) -> set[str]:
    """Everybody whose value is kept, opened with this ring."""
    return {unseal(ring, *row[:3]).email for row in await sealed_rows(database)}


async def stale_count(database: Database) -> int:
    return (await key_rotation.count(database, ALONE, SIGNATURES)).stale_count


async def test_rotation_under_load_loses_nothing(
    open_rotated: OpenRotated, database: Database, petition_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 have signed under the old key; during the rotation some withdraw, some sign again, and others come."""
    before, failed = await deadlocks(database), commit_failures()
    monkeypatch.setattr(key_rotation, "BATCH_LIMIT", 50)
    old, new = await open_rotated(OLD), await open_rotated(BOTH)
    firsts = await asyncio.gather(*(sign(old, body) for body in people_like(2000)))
    receipts = [write_receipt(old.ring, petition_id, first.signer, first.id) for first in firsts]
    connection = await database.pin()
    begun, settled = asyncio.Event(), 0

    def tell(more: int) -> None:
        nonlocal settled
        settled += more
        begun.set()

    rotation = asyncio.create_task(key_rotation.reseal(database, connection, new.ring, SIGNATURES, tell))
    beginning = asyncio.create_task(begun.wait())
    await asyncio.wait([rotation, beginning], return_when=asyncio.FIRST_COMPLETED)
    assert begun.is_set(), rotation
    assert settled < 2000
    rooms = (old, new)
    for start in range(0, 600, 100):
        leaving = range(start, start + 100)
        await asyncio.gather(
            # Also through a process that does not know the new key yet.
            *(service.withdraw(rooms[number % 2], petition_id, receipts[number]) for number in leaving),
            *(sign(rooms[number % 2], person(number)) for number in range(2000 + start, 2100 + start)),
            *(sign(rooms[number % 2], person(number)) for number in range(1000 + start, 1050 + start)),
        )
        await asyncio.gather(*(sign(rooms[number % 2], person(number)) for number in leaving if number % 10 == 0))
    told = await rotation
    # The process that still sealed with the old key is ended; what it left behind is found by running it again.
    await old.close()
    again = await key_rotation.reseal(database, connection, new.ring, SIGNATURES, tell)
    assert (again.unreadable_count, again.left_count) == (0, 0)
    assert settled == told.resealed_count + again.resealed_count >= 1400
    standing = {number for number in range(2600) if number >= 600 or number % 10 == 0}
    assert await emails(database) == {person(number)["email"] for number in standing}
    assert await exact_counts(database) == {"end-the-ban": len(standing)}
    rotated = await open_rotated(NEW, OLD)
    await asyncio.gather(*(service.withdraw(rotated, petition_id, receipt) for receipt in receipts[600:]))
    # Of those who had signed twice, the other attempt stands now.
    assert await exact_counts(database) == {"end-the-ban": 60 + 600 + 300}
    assert commit_failures() == failed
    await connection.close()
    for room in (new, rotated):
        await room.close()
    assert await deadlocks(database) == before


async def test_rotation_ends_though_a_process_keeps_sealing_with_the_old_key(
    open_rotated: OpenRotated, database: Database, petition_id: UUID
) -> None:
    old = await open_rotated(OLD)
    ring, connection, numbers = KeyRing.parse(BOTH), await database.pin(), iter(range(1000))
    await sign(old, person(next(numbers)))
    passes = 0
    original = key_rotation.count

    async def count_after_one_more(*arguments: Any) -> key_rotation.Counted:
        nonlocal passes
        passes += 1
        await sign(old, person(next(numbers)))
        return await original(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(key_rotation, "count", count_after_one_more)
        told = await key_rotation.reseal(database, connection, ring, SIGNATURES, lambda _: None)
    assert passes == key_rotation.PASS_LIMIT + 1
    assert told == key_rotation.Resealed(passes + 1, passes, 0, 1)
    await connection.close()


@pytest.mark.process
async def test_a_rotation_killed_in_the_middle_is_completed_by_the_next(
    lanes: tuple[Lane, Lane], database: Database, petition_id: UUID, url: str
) -> None:
    people = key_rotation.BATCH_LIMIT * 2 + 500
    await insert.sign(lanes[0], prepared(KeyRing.parse(OLD), petition_id, people_like(people)))
    last = (await sealed_rows(database))[-1]
    words = ("keys", "rotate-encryption", "--json")
    given = {"DATABASE_URL": url, "MULTITUDE_SECRET_KEYS": BOTH}
    async with committing(lanes[1].connection):
        # It comes as far as the last batch, and no further.
        await lanes[1].connection.execute("SELECT 1 FROM signatures WHERE signer = $1 FOR UPDATE", last.signer)
        process = subprocess.Popen(  # noqa: ASYNC220 - killed before anything else is awaited of it
            multitude(*words),
            cwd=ROOT,
            env=environment(**given),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await wait_for_blocked(lanes[0].connection)
        finally:
            process.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert await stale_count(database) == 500
    assert await exact_counts(database) == {"end-the-ban": people}
    told = await asyncio.to_thread(command, *words, **given)
    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout)["tables"][SIGNATURES.name]["resealed_count"] == 500
    assert await stale_count(database) == 0
    assert await emails(database) == {body["email"] for body in people_like(people)}
    verified = await asyncio.to_thread(command, "tally", "verify", "--json", DATABASE_URL=url)
    assert (verified.returncode, json.loads(verified.stdout)["agrees"]) == (0, True)


async def test_whoever_is_not_in_the_batch_being_written_does_not_wait_for_it(
    open_rotated: OpenRotated, lanes: tuple[Lane, Lane], database: Database, petition_id: UUID
) -> None:
    room = await open_rotated(BOTH)
    await insert.sign(lanes[0], prepared(KeyRing.parse(OLD), petition_id, people_like(200)))
    rows = await sealed_rows(database)
    anew = [(row[0], row[1], row[2], room.ring.seal(b"", b"")) for row in rows[:100]]
    arrays = [list(values) for values in zip(*anew, strict=True)]
    numbers = {bytes(room.ring.digest(body["email"])): body for body in people_like(200)}
    async with committing(lanes[1].connection):
        await lanes[1].connection.execute(SIGNATURES.format(key_rotation._LOCK), *arrays[:-1])
        async with asyncio.timeout(60):  # a batch that waited for those rows would fail before
            await asyncio.gather(*(sign(room, person(number)) for number in range(200, 300)))
            await asyncio.gather(*(sign(room, numbers[row.signer]) for row in rows[100:]))
    assert await exact_counts(database) == {"end-the-ban": 300}
