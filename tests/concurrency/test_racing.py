"""Races: two processes at once. Nobody is counted twice, nobody waits for another's tallies, nobody is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from app.kit.database.session import Database, committing
from app.kit.problems import Unavailable
from app.settings import Settings
from app.signatures import service
from app.signatures.engine import insert, tallies
from app.signatures.engine.lanes import LANES, Lane, NoLaneError, claim
from app.signatures.engine.signings import Origin, Outcome
from app.signatures.engine.transitions import Withdrawal
from app.signatures.engine.withdraw import withdraw
from app.signatures.services import SigningServices
from app.signatures.signing.sealing import write_receipt
from tests.support.databases import run
from tests.support.factories import insert_petition, people_like, person
from tests.support.settings import FINGERPRINT
from tests.support.signing_engine import SLUG, commit_failures, deadlocks, prepared, sign, wait_for_blocked
from tests.support.tallies import exact_counts

OpenRoom = Callable[..., Awaitable[SigningServices]]


async def test_two_processes_sign_the_same_people_at_once(
    rooms: list[SigningServices], database: Database, petition_id: UUID
) -> None:
    before, failed = await deadlocks(database), commit_failures()
    people = people_like(500)
    signings = [sign(rooms[0], body) for body in people] + [sign(rooms[1], body) for body in reversed(people)]
    assert len(await asyncio.gather(*signings)) == 1000
    assert await exact_counts(database) == {SLUG: 500}
    assert commit_failures() == failed
    for room in rooms:
        await room.close()
    assert await deadlocks(database) == before


async def test_everybody_does_everything_at_once_without_a_deadlock(
    rooms: list[SigningServices], database: Database, petition_id: UUID
) -> None:
    before, failed = await deadlocks(database), commit_failures()
    slugs = [SLUG, *(f"petition-{number}" for number in range(4))]
    ids = [petition_id, *[await insert_petition(database, slug) for slug in slugs[1:]]]
    people = people_like(40)
    for _ in range(3):
        jobs: list[Awaitable[Any]] = []
        for number, (slug, id_) in enumerate(zip(slugs, ids, strict=True)):
            stood = await run(database, "SELECT signer, id FROM signatures WHERE petition_id = :id", id=id_)
            for row in stood[:: 1 + number % 2]:
                room = rooms[number % 2]
                jobs.append(service.withdraw(room, id_, write_receipt(room.ring, id_, row.signer, row.id)))
            for turn, room in enumerate(rooms):
                jobs += [sign(room, body, slug) for body in people[:: 1 if turn else -1]]
        await asyncio.gather(*jobs[::2], *jobs[1::2])
        await exact_counts(database)
    assert commit_failures() == failed
    for room in rooms:
        await room.close()
    assert await deadlocks(database) == before


async def test_two_lanes_never_wait_for_each_others_tallies(
    lanes: tuple[Lane, Lane], database: Database, petition_id: UUID, settings: Settings
) -> None:
    ours, theirs = lanes
    ring = settings.key_ring
    mine = prepared(ring, petition_id, people_like(10))
    async with committing(ours.connection):
        assert len(await insert._insert(ours.connection, sorted(mine), Origin.SIGNER)) == 10
        changes = [(petition_id, signing.tally_keys, 1) for signing in mine]
        await tallies.apply_deltas(ours.connection, ours.number, {petition_id}, changes)
        async with asyncio.timeout(60):  # whoever waited for the other lane would fail before
            others = prepared(ring, petition_id, [person(number) for number in range(10, 20)])
            committed = await insert.sign(theirs, others)
        assert committed.outcomes == [Outcome.COUNTED] * 10
        assert await exact_counts(database) == {SLUG: 10}
    assert await exact_counts(database) == {SLUG: 20}


async def test_whoever_signs_in_two_places_at_once_waits_for_the_first_and_counts_once(
    lanes: tuple[Lane, Lane], database: Database, petition_id: UUID, settings: Settings
) -> None:
    ours, theirs = lanes
    first, second = (prepared(settings.key_ring, petition_id, [person(1)]) for _ in range(2))
    async with committing(ours.connection):
        await insert._insert(ours.connection, first, Origin.SIGNER)
        changes = [(petition_id, first[0].tally_keys, 1)]
        await tallies.apply_deltas(ours.connection, ours.number, {petition_id}, changes)
        waiting = asyncio.create_task(insert.sign(theirs, second))
        assert await wait_for_blocked(ours.connection) == [theirs.connection.get_server_pid()]
        assert not waiting.done()
    assert (await waiting).outcomes == [Outcome.DUPLICATE]
    assert await exact_counts(database) == {SLUG: 1}


async def test_whoever_waits_for_a_first_that_fails_is_counted_instead(
    lanes: tuple[Lane, Lane], database: Database, petition_id: UUID, settings: Settings
) -> None:
    ours, theirs = lanes
    first, second = (prepared(settings.key_ring, petition_id, [person(1)]) for _ in range(2))
    failing = ours.connection.transaction()
    await failing.start()
    await insert._insert(ours.connection, first, Origin.SIGNER)
    waiting = asyncio.create_task(insert.sign(theirs, second))
    await wait_for_blocked(ours.connection)
    await failing.rollback()
    assert (await waiting).outcomes == [Outcome.COUNTED]
    assert await exact_counts(database) == {SLUG: 1}


async def test_a_batch_whose_outcome_was_not_known_is_repeated_without_harm(
    lanes: tuple[Lane, Lane], database: Database, petition_id: UUID, settings: Settings
) -> None:
    another = await insert_petition(database, "another")
    batch = [
        *prepared(settings.key_ring, petition_id, people_like(5)),
        *prepared(settings.key_ring, another, people_like(5)),
        *prepared(settings.key_ring, petition_id, people_like(2)),
    ]
    told = [Outcome.COUNTED] * 10 + [Outcome.DUPLICATE] * 2
    for lane in (*lanes, lanes[0]):
        assert (await insert.sign(lane, batch)).outcomes == told
        assert await exact_counts(database) == {"another": 5, SLUG: 5}
    await run(database, "UPDATE petitions SET state = 'closed'")
    # What was committed stays counted, though whoever comes now is refused.
    again = (await insert.sign(lanes[1], batch)).outcomes
    assert again == [Outcome.COUNTED] * 10 + [Outcome.DUPLICATE] * 2
    late = prepared(settings.key_ring, petition_id, [person(1), person(9)])
    assert (await insert.sign(lanes[1], late)).outcomes == [Outcome.REFUSED] * 2
    assert await exact_counts(database) == {"another": 5, SLUG: 5}


async def test_a_withdrawal_is_repeated_without_harm(
    lanes: tuple[Lane, Lane], database: Database, petition_id: UUID, settings: Settings
) -> None:
    batch = prepared(settings.key_ring, petition_id, people_like(3))
    await insert.sign(lanes[0], batch)
    withdrawals = [Withdrawal(*signing[:3]) for signing in (batch[0], batch[0], batch[1])]
    assert (await withdraw(lanes[1], withdrawals)).outcomes == [Outcome.WITHDRAWN] * 3
    assert (await withdraw(lanes[0], withdrawals)).outcomes == [Outcome.NOTHING] * 3
    assert await exact_counts(database) == {SLUG: 1}


async def test_receipts_of_one_person_in_one_batch_each_withdraw_their_own_attempt(
    lanes: tuple[Lane, Lane], database: Database, petition_id: UUID, settings: Settings
) -> None:
    (first,), (second,) = (prepared(settings.key_ring, petition_id, [person(1)]) for _ in range(2))
    await insert.sign(lanes[0], [first])
    await insert.sign(lanes[0], [second])
    withdrawals = [Withdrawal(*signing[:3]) for signing in (second, first, second)]
    told = (await withdraw(lanes[1], withdrawals)).outcomes
    assert told == [Outcome.WITHDRAWN] * 3
    assert await exact_counts(database) == {SLUG: 0}
    assert (await withdraw(lanes[1], withdrawals)).outcomes == [Outcome.NOTHING] * 3


async def test_in_one_batch_what_is_held_keeps_nobody_out(
    lanes: tuple[Lane, Lane], database: Database, petition_id: UUID, settings: Settings
) -> None:
    (first,), (second,) = (prepared(settings.key_ring, petition_id, [person(1)]) for _ in range(2))
    held = first._replace(signals=first.signals._replace(on_hold=True))
    told = (await insert.sign(lanes[0], [held, second])).outcomes
    assert told == [Outcome.DUPLICATE, Outcome.COUNTED]
    assert await exact_counts(database) == {SLUG: 1}


async def test_whoever_signs_while_their_first_is_withdrawn_counts_by_the_second(
    rooms: list[SigningServices], database: Database, petition_id: UUID
) -> None:
    people = people_like(60)
    firsts = await asyncio.gather(*(sign(rooms[0], body) for body in people))
    receipts = [write_receipt(rooms[0].ring, petition_id, first.signer, first.id) for first in firsts]
    seconds = await asyncio.gather(
        *(sign(rooms[number % 2], body) for number, body in enumerate(people)),
        *(service.withdraw(rooms[number % 2 - 1], petition_id, receipt) for number, receipt in enumerate(receipts)),
    )
    rows = await run(database, "SELECT signer, id, state, octet_length(sealed) AS kept FROM signatures")
    again = {signing.signer: signing.id for signing in seconds if signing}
    for row in rows:
        assert (row.id, row.state) == (again[row.signer], "confirmed")
        assert row.kept
    assert await exact_counts(database) == {SLUG: len(people)}
    left = await run(database, "SELECT id FROM signature_attempts WHERE octet_length(sealed) > 0")
    assert left == [], "what is withdrawn is destroyed, wherever it was"


async def test_a_lane_belongs_to_one_and_is_free_when_its_connection_ends(database: Database) -> None:
    lanes = [await claim(database, FINGERPRINT) for _ in range(3)]
    assert [lane.number for lane in lanes] == [0, 1, 2]
    await lanes[1].release()
    assert await _claimed(database, 1) == 1
    lanes[0].drop()
    assert await _claimed(database, 0) == 0
    pid = lanes[2].connection.get_server_pid()
    await run(database, "SELECT pg_terminate_backend(:pid)", pid=pid)
    assert await _claimed(database, 2) in {0, 1, 2}
    lanes[2].drop()


async def _claimed(database: Database, wished: int) -> int:
    """Claim lanes until the wished one is had, for PostgreSQL takes a moment to miss a client."""
    async with asyncio.timeout(60):
        while True:
            lane = await claim(database, FINGERPRINT)
            await lane.release()
            if lane.number <= wished:
                return lane.number


async def test_when_all_lanes_are_taken_it_is_told(database: Database, petition_id: UUID, open_room: OpenRoom) -> None:
    connection = await database.pin()
    await connection.execute(f"SELECT pg_advisory_lock(x'6c616e65'::int, n) FROM generate_series(0, {LANES - 1}) n")
    with pytest.raises(NoLaneError):
        await claim(database, FINGERPRINT)
    room = await open_room(commit_patience_seconds=0.2)
    with pytest.raises(Unavailable):
        await sign(room, person(1))
    await connection.execute("SELECT pg_advisory_unlock(x'6c616e65'::int, 200)")
    lane = await claim(database, FINGERPRINT)
    assert lane.number == 200
    await lane.release()
    await connection.close()
