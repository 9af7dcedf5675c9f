"""Attempts while others have hold of them: people, rules, retention, sweeps and mails lock them in the same order.

The order: the people's rows of `signatures` by their keys, then their attempts by their keys.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import text

from app.kit.database.ids import uuid7
from app.kit.database.session import Connection, Database, committing
from app.kit.mail.outcome import Outcome as MailOutcome
from app.kit.mail.sender import MOST_SENDINGS, Result
from app.organizations.models import Organization
from app.settings import Settings
from app.signatures.background import mails, runner
from app.signatures.background.consents import ConsentRecorder
from app.signatures.background.withdrawal_messages import WithdrawalMessages
from app.signatures.engine import chunks, insert
from app.signatures.engine.confirm import confirm
from app.signatures.engine.erase import erase
from app.signatures.engine.lanes import Lane
from app.signatures.engine.scan import ScanProgress
from app.signatures.engine.signings import Outcome, Signing
from app.signatures.engine.transitions import Confirmation, Erasure, Withdrawal
from app.signatures.engine.withdraw import withdraw
from app.signatures.moderation import rules
from app.signatures.moderation.rules import StoredRule
from app.signatures.moderation.schemas import RuleBody
from tests.support.databases import run
from tests.support.factories import person
from tests.support.invalidations import apply_all, claimed_lane, insert_invalidation, prepared_signing, sign_all
from tests.support.people_mails import TEMPLATES
from tests.support.settings import RING
from tests.support.signing_engine import wait_for_blocked
from tests.support.tallies import exact_counts

HOLD = "SELECT FROM {table} WHERE signer = $1 FOR UPDATE"


class Both(NamedTuple):
    """Two people in the order of their keys."""

    first: int
    second: int


def in_order(petition_id: UUID) -> Both:
    return Both(*sorted((1, 2), key=lambda n: prepared_signing(petition_id, person(n)).signer))


def rule_of(**body: object) -> chunks.Rule:
    return rules.rule_of(RING, StoredRule(body=RuleBody.model_validate(body)))


async def invalidate(lane: Lane, petition_id: UUID, **rule: object) -> chunks.ChunkResult:
    async with committing(lane.connection):
        return await chunks.invalidate(lane, chunks.chunk_at(petition_id, 0, 1), uuid7(), rule_of(**rule))


async def restore(lane: Lane, petition_id: UUID, id_: UUID) -> chunks.ChunkResult:
    async with committing(lane.connection):
        return await chunks.restore(lane, chunks.chunk_at(petition_id, 0, 1), id_)


async def anonymize(lane: Lane, petition_id: UUID) -> chunks.ChunkResult:
    async with committing(lane.connection):
        return await chunks.anonymize(lane, chunks.chunk_at(petition_id, 0, 1))


@asynccontextmanager
async def held(database: Database, table: str, signer: bytes) -> AsyncIterator[Connection]:
    """For as long as the block lasts somebody has a hold of this person's rows there."""
    connection = await database.pin()
    try:
        async with committing(connection):
            await connection.execute(HOLD.format(table=table), signer)
            yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("way", ["invalidate", "restore"])
async def test_a_rule_and_a_batch_of_signings_never_wait_for_each_other(
    database: Database, petition_id: UUID, way: str
) -> None:
    people = in_order(petition_id)
    first, second = (prepared_signing(petition_id, person(n)) for n in people)
    await sign_all(database, [first, second])
    await sign_all(database, [prepared_signing(petition_id, person(people.second))])
    async with claimed_lane(database) as worker, claimed_lane(database) as signing:
        if way == "restore":
            await invalidate(worker, petition_id, everything=True)
            ((id_,),) = await run(database, "SELECT DISTINCT invalidation_id FROM signatures")
        again = [prepared_signing(petition_id, person(n)) for n in people]
        async with held(database, "signature_attempts", second.signer) as sweep:
            working = asyncio.create_task(
                restore(worker, petition_id, id_)
                if way == "restore"
                else invalidate(worker, petition_id, everything=True)
            )
            await wait_for_blocked(sweep)
            signed = asyncio.create_task(insert.sign(signing, again))
            await wait_for_blocked(sweep, 2)
        assert (await working).changed == 3
        await signed
    assert await run(database, "SELECT count(*) FROM signature_attempts") == [(3,)]


async def test_retention_and_whoever_confirms_never_wait_for_each_other(database: Database, petition_id: UUID) -> None:
    stands, waits = (prepared_signing(petition_id, person(1, country)) for country in ("FR", "UG"))
    await sign_all(database, [stands])
    await sign_all(database, [waits])
    await run(database, "UPDATE petitions SET state = 'closed'")
    async with claimed_lane(database) as worker, claimed_lane(database) as lane:
        async with held(database, "signatures", stands.signer) as holding:
            confirming = asyncio.create_task(confirm(lane, [Confirmation(*waits[:3])]))
            await wait_for_blocked(holding)
            destroying = asyncio.create_task(anonymize(worker, petition_id))
            await wait_for_blocked(holding, 2)
        assert (await confirming).outcomes == [Outcome.CONFIRMED]
        await destroying
        await anonymize(worker, petition_id)
    assert await run(database, "SELECT country, octet_length(sealed) FROM signatures") == [("UG", 0)]
    assert await run(database, "SELECT count(*) FROM signature_attempts") == [(0,)]
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_erasures_and_a_batch_of_withdrawals_never_wait_for_each_other(
    database: Database, petition_id: UUID
) -> None:
    first, second = (prepared_signing(petition_id, person(n)) for n in in_order(petition_id))
    await sign_all(database, [first, second])
    async with claimed_lane(database) as lane, claimed_lane(database) as other:
        async with held(database, "signatures", first.signer) as holding:
            withdrawing = asyncio.create_task(withdraw(lane, [Withdrawal(*one[:3]) for one in (first, second)]))
            await wait_for_blocked(holding)
            erasures = [Erasure(*one[:2], keeping=one is second) for one in (first, second)]
            erasing = asyncio.create_task(erase(other, erasures))
            await wait_for_blocked(holding, 2)
        assert (await withdrawing).outcomes == [Outcome.WITHDRAWN] * 2
        assert (await erasing).outcomes == [Outcome.ERASED] * 2
    assert await run(database, "SELECT count(*) FROM signatures") == [(0,)]
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_a_withdrawal_is_told_before_it_is_forgotten(database: Database, petition_id: UUID) -> None:
    stands, waits, alone = (prepared_signing(petition_id, person(n)) for n in (1, 1, 2))
    await sign_all(database, [stands, alone])
    await sign_all(database, [waits])
    async with claimed_lane(database) as lane:
        await withdraw(lane, [Withdrawal(*one[:3]) for one in (waits, alone)])
        await run(database, "UPDATE petitions SET state = 'closed', personal_data_until = current_date")
        # Even where the petition has been chosen already.
        assert (await anonymize(lane, petition_id)).changed == 0
        progress = ScanProgress()
        assert not await runner.run_chunk(lane, RING, progress)
        async with database.transaction() as session:
            assert set(await WithdrawalMessages(RING)(session)) == {waits.signer, alone.signer}
        while await runner.run_chunk(lane, RING, progress):
            continue
    assert await run(database, "SELECT octet_length(sealed) FROM signatures") == [(0,)]
    assert await run(database, "SELECT personal_data_destroyed_at IS NOT NULL FROM petitions") == [(True,)]


async def test_consents_that_are_entered_while_their_attempt_comes_to_stand_are_entered_once(
    database: Database, petition_id: UUID
) -> None:
    async with database.transaction() as session:
        session.add(Organization(slug="sisters", name="Sisters", kind="partner"))
    given = [{"organization": "sisters", "given": True}]
    accepted, last = (prepared_signing(petition_id, person(1, *more, consents=given)) for more in (["FR"], ["UG"]))
    await sign_all(database, [accepted])
    await sign_all(database, [last])
    async with claimed_lane(database) as lane, claimed_lane(database) as watching:
        await confirm(lane, [Confirmation(*accepted[:3], accepted=1)])
        await confirm(lane, [Confirmation(*last[:3])])
        async with database.transaction() as session:
            assert await ConsentRecorder(RING)(session) == [accepted.signer]
            working = asyncio.create_task(invalidate(lane, petition_id, countries=["UG"]))
            await wait_for_blocked(watching.connection)
        assert (await working).changed == 1
    assert await run(database, "SELECT id, country FROM signatures") == [(accepted.id, "FR")]
    async with database.transaction() as session:
        assert await ConsentRecorder(RING)(session) == []
    assert await run(database, "SELECT count(*) FROM consents") == [(1,)]


async def test_a_mail_that_is_claimed_while_its_attempt_comes_to_stand_is_sent_once(
    database: Database, settings: Settings, petition_id: UUID
) -> None:
    stands, waits = await asked_by_mail(database, petition_id, 1, 1)
    claim = mails._CLAIM.format(table="signature_attempts", limit=10)
    async with claimed_lane(database) as lane, claimed_lane(database) as watching:
        async with database.transaction() as session:
            claimed = (await session.execute(text(claim), {"most": MOST_SENDINGS, "lease": 600})).all()
            assert [row.id for row in claimed] == [waits.id]
            withdrawing = asyncio.create_task(withdraw(lane, [Withdrawal(*stands[:3])]))
            await wait_for_blocked(watching.connection)
        assert (await withdrawing).outcomes == [Outcome.WITHDRAWN]
    assert await run(database, "SELECT id, mail_count FROM signatures") == [(waits.id, 1)]
    assert (await mails.SignatureMails(database, settings, TEMPLATES, None).claim(10)).mails == []  # type: ignore[arg-type]


async def asked_by_mail(database: Database, petition_id: UUID, *numbers: int) -> list[Signing]:
    """These people's attempts, one after the other, each of which is to be confirmed by mail."""
    await run(database, "UPDATE petitions SET confirmation = 'email'")
    signings = [prepared_signing(petition_id, person(n)) for n in numbers]
    for one in signings:
        await sign_all(database, [one])
    return signings


async def test_an_attempt_that_comes_to_wait_after_its_chunk_is_invalidated_too(
    database: Database, petition_id: UUID
) -> None:
    await sign_all(database, [prepared_signing(petition_id, person(1, "FR"))])
    late = prepared_signing(petition_id, person(1, "UG"))
    await insert_invalidation(database, petition_id, countries=["UG"])
    async with claimed_lane(database) as lane:
        assert await runner.run_chunk(lane, RING, ScanProgress())
        await insert.sign(lane, [late])
    await apply_all(database, petition_id)
    assert await run(database, "SELECT id, state FROM signature_attempts") == [(late.id, "invalidated")]
    assert await run(database, "SELECT state, invalidated_count FROM invalidations") == [("applied", 1)]


async def test_an_attempt_that_waits_and_was_passed_over_is_restored_too(database: Database, petition_id: UUID) -> None:
    await sign_all(database, [prepared_signing(petition_id, person(1, "FR"))])
    waits = prepared_signing(petition_id, person(1, "UG"))
    await sign_all(database, [waits])
    await insert_invalidation(database, petition_id, countries=["UG"])
    await apply_all(database, petition_id)
    # All chunks were done when it moved, as the version before let it.
    await run(database, "UPDATE invalidations SET state = 'undoing', slice = slice_count")
    await apply_all(database, petition_id)
    assert await run(database, "SELECT id, state FROM signature_attempts") == [(waits.id, "confirmed")]
    told = await run(database, "SELECT state, invalidated_count, restored_count FROM invalidations")
    assert told == [("undone", 1, 1)]


async def test_an_invalidation_that_is_undone_has_restored_as_many_as_it_has_invalidated(
    database: Database, petition_id: UUID
) -> None:
    await sign_all(database, [prepared_signing(petition_id, person(n, "FR")) for n in range(3)])
    # Of one another attempt stands then, and of one an attempt that waits is invalidated.
    await sign_all(database, [prepared_signing(petition_id, person(n, c)) for n, c in ((0, "UG"), (1, "FR"))])
    await insert_invalidation(database, petition_id, countries=["FR"])
    await apply_all(database, petition_id)
    await run(database, "UPDATE invalidations SET state = 'undoing', slice = 0")
    await apply_all(database, petition_id)
    assert await run(database, "SELECT invalidated_count, restored_count FROM invalidations") == [(4, 4)]


@pytest.mark.parametrize("postponed", [False, True])
async def test_mails_and_a_batch_of_withdrawals_never_wait_for_each_other(
    database: Database, settings: Settings, petition_id: UUID, *, postponed: bool
) -> None:
    first, second = await asked_by_mail(database, petition_id, *in_order(petition_id))
    source = mails.SignatureMails(database, settings, TEMPLATES, None)  # type: ignore[arg-type]  # without a limit
    claimed = {one.id: one for one in (await source.claim(10)).mails}
    results = [
        Result(claimed[first.id], MailOutcome.SENT),
        Result(claimed[second.id], MailOutcome.LATER, "mailbox-busy"),
    ]
    async with claimed_lane(database) as lane:
        async with held(database, "signatures", first.signer) as holding:
            withdrawing = asyncio.create_task(withdraw(lane, [Withdrawal(*one[:3]) for one in (first, second)]))
            await wait_for_blocked(holding)
            settling = asyncio.create_task(
                postpone(database, source, [one.claimed.key for one in results])
                if postponed
                else settle(source, results)
            )
            await wait_for_blocked(holding, 2)
        assert (await withdrawing).outcomes == [Outcome.WITHDRAWN] * 2
        await settling
    assert await run(database, "SELECT DISTINCT state, due_mail FROM signatures") == [("withdrawn", None)]
    assert await run(database, "SELECT count(*) FROM mail_failures") == [(0,)]


async def settle(source: mails.SignatureMails, results: list[Result]) -> None:
    await source.settle(results)


async def postpone(database: Database, source: mails.SignatureMails, rows: list[object]) -> None:
    async with database.transaction() as session:
        await source._postpone(session, rows)
