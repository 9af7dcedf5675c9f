"""Every consent that is committed is told once to each endpoint and pulled once, whatever was committed when.

Transactions make their ids in one order and commit in another, or not at all. In between they are swept, by a sweep
whose own transaction may stay open or fail, and a partner pulls with a cursor that only moves forward. A reader that
takes ids for their order is run beside it, to show that these stories would find it out.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import combinations, count, permutations, product
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.kit.database.outbox import NewMessage, publish
from app.kit.database.paging import Paging
from app.kit.database.session import Database
from app.kit.webhooks.message_types import MessageTypes
from app.organizations.models import Organization
from app.partners.models import Partnership, WebhookEndpoint
from app.partners.outbound.feed.service import pull
from app.partners.outbound.message_types import fan_out
from app.partners.outbound.message_types.bodies import body_of
from app.partners.outbound.message_types.fan_out import FanOut
from app.partners.outbound.message_types.types import MESSAGE_TYPES
from app.people.consents.service import Entry, enter
from app.signatures.signing.sealing import Personal, seal
from tests.support.attempts import told_id
from tests.support.databases import run
from tests.support.factories import insert_petition
from tests.support.settings import SECRET_KEYS
from tests.support.signing_engine import wait_for_blocked

pytestmark = pytest.mark.slow


RING = KeyRing.parse(SECRET_KEYS)
TYPES = MessageTypes(MESSAGE_TYPES)
spread = FanOut(TYPES)
WRITERS = range(4)
_BEGINNING = UUID(int=0)
_numbers = count()
_SIGN = text("""
    INSERT INTO signatures (petition_id, signer, id, signed_at, country, state, region, source, sealed)
    VALUES (:petition_id, :signer, :id, now(), 'UG', 'confirmed', '', '', :sealed)
""")


class Write(NamedTuple):
    """A transaction, begun if it is not, enters a consent that came with a signature."""

    writer: int


class End(NamedTuple):
    """It commits, or does not."""

    writer: int
    committed: bool


class Sweep(NamedTuple):
    """One round of the sweep."""


class BeginSweep(NamedTuple):
    """A round whose transaction stays open."""


class EndSweep(NamedTuple):
    """It commits, or does not."""

    committed: bool


class Pull(NamedTuple):
    """The partner asks for a page, and so does the reader who goes by ids."""

    limit: int


Act = Write | End | Sweep | BeginSweep | EndSweep | Pull
_writer = st.sampled_from(WRITERS)
_act = st.one_of(
    st.builds(Write, _writer),
    st.builds(Write, _writer),
    st.builds(End, _writer, st.sampled_from([True, True, False])),
    st.builds(End, _writer, st.just(True)),
    st.just(Sweep()),
    st.just(BeginSweep()),
    st.builds(EndSweep, st.booleans()),
    st.builds(Pull, st.integers(1, 3)),
)


@dataclass
class Open:
    """A transaction that has not ended, and what it has written."""

    context: AbstractAsyncContextManager[AsyncSession]
    session: AsyncSession
    written: list[str] = field(default_factory=list)

    async def end(self, *, committed: bool) -> None:
        failure = None if committed else RuntimeError()
        await self.context.__aexit__(type(failure) if failure else None, failure, None)


@dataclass
class World:
    """A partner with two endpoints, and what the model knows: the signatures whose consents are committed."""

    database: Database
    petition_id: UUID
    organization_id: UUID
    endpoints: tuple[UUID, UUID]
    writers: dict[int, Open] = field(default_factory=dict)
    sweeping: Open | None = None
    committed: set[str] = field(default_factory=set)
    cursor: str | None = None
    pulled: list[str] = field(default_factory=list)
    naive_cursor: UUID = _BEGINNING
    naively_read: int = 0

    async def act(self, act: Act) -> None:
        match act:
            case Write(writer):
                await self.write(writer)
            case End(writer, committed):
                await self.end(writer, committed=committed)
            case Sweep():
                await self.sweep()
            case BeginSweep():
                await self.begin_sweep()
            case EndSweep(committed):
                await self.end_sweep(committed=committed)
            case Pull(limit):
                await self.pull(limit)

    async def begin(self) -> Open:
        context = self.database.transaction()
        return Open(context, await context.__aenter__())

    async def write(self, writer: int) -> None:
        if writer not in self.writers:
            self.writers[writer] = await self.begin()
        await self.sign(self.writers[writer])

    async def sign(self, opened: Open) -> None:
        signer, id_ = uuid7().bytes, uuid7()
        sealed = seal(
            RING,
            self.petition_id,
            signer,
            Personal(given_name="Given", family_name="Family", email="somebody@example.org"),
        )
        values = {"petition_id": self.petition_id, "signer": signer, "id": id_, "sealed": sealed}
        await opened.session.execute(_SIGN, values)
        entry = Entry(
            signer, self.organization_id, "news", True, None, now(), petition_id=self.petition_id, attempt_id=id_
        )
        await enter(opened.session, RING, [entry])
        opened.written.append(told_id(self.organization_id, id_))

    async def end(self, writer: int, *, committed: bool) -> None:
        opened = self.writers.pop(writer, None)
        if opened is not None:
            await opened.end(committed=committed)
            self.committed |= set(opened.written) if committed else set()

    async def sweep(self) -> None:
        if self.sweeping is None:
            async with self.database.transaction() as session:
                await spread(session)

    async def begin_sweep(self) -> None:
        if self.sweeping is None:
            self.sweeping = await self.begin()
            await spread(self.sweeping.session)

    async def end_sweep(self, *, committed: bool) -> None:
        if self.sweeping is not None:
            await self.sweeping.end(committed=committed)
            self.sweeping = None

    async def pull(self, limit: int) -> bool:
        """Whether there is more."""
        async with self.database.transaction() as session:
            page = await pull(session, RING, self.organization_id, Paging(cursor=self.cursor, limit=limit))
        self.cursor = page.cursor
        self.pulled += [str(signer.signature_id) for signer in page.items]
        assert set(self.pulled) <= self.committed
        await self.read_naively()
        return page.next_cursor is not None

    async def read_naively(self) -> None:
        rows = await run(
            self.database,
            "SELECT id FROM consents WHERE organization_id = :to AND id > :behind ORDER BY id",
            to=self.organization_id,
            behind=self.naive_cursor,
        )
        self.naively_read += len(rows)
        self.naive_cursor = rows[-1][0] if rows else self.naive_cursor

    async def settle(self) -> None:
        """Whoever has not committed never does; then all is swept and pulled."""
        for writer in tuple(self.writers):
            await self.end(writer, committed=False)
        await self.end_sweep(committed=True)
        while (await run(self.database, "SELECT count(*) FROM outbox_messages"))[0][0]:
            await self.sweep()
        while await self.pull(3):
            continue

    async def judge(self) -> None:
        """Once each, and nothing else, in every way in which a partner is told."""
        once = Counter(self.committed)
        assert Counter(self.pulled) == once
        for endpoint_id in self.endpoints:
            assert Counter(await self.told(endpoint_id)) == once

    async def told(self, endpoint_id: UUID) -> list[str]:
        messages = await run(
            self.database,
            "SELECT m.type, m.content, m.created_at, e.organization_id FROM webhook_messages m"
            " JOIN webhook_endpoints e ON e.id = m.endpoint_id WHERE e.id = :id ORDER BY m.id",
            id=endpoint_id,
        )
        told = []
        async with self.database.transaction() as session:
            for message in messages:
                body = await body_of(session, RING, TYPES, message)
                signatures = json.loads(body)["data"]["signatures"] if body else []
                assert len(signatures) <= fan_out.MOST_TOLD
                told += [signer["signature_id"] for signer in signatures]
        return told

    @property
    def naively_skipped(self) -> int:
        return len(self.committed) - self.naively_read


async def new_world(database: Database) -> World:
    number = next(_numbers)
    petition_id = await insert_petition(database, f"petition-{number}")
    (row,) = await run(database, "SELECT campaign_id FROM petitions WHERE id = :id", id=petition_id)
    async with database.transaction() as session:
        organization = Organization(slug=f"partner-{number}", name="A partner", kind="partner")
        session.add(organization)
        await session.flush()
        session.add(
            Partnership(
                organization_id=organization.id, campaign_id=row[0], state="active", terms="As agreed.", consents=[],
                receives_signers=True, invited_by=organization.id,
            )
        )  # fmt: skip
        endpoints = [
            WebhookEndpoint(organization_id=organization.id, sealed=b"sealed", types=["signature.counted"], state=state)
            for state in ("active", "paused")
        ]
        session.add_all(endpoints)
        await session.flush()
        return World(database, petition_id, organization.id, (endpoints[0].id, endpoints[1].id))


async def live(database: Database, story: list[Act]) -> World:
    world = await new_world(database)
    for act in story:
        await world.act(act)
    await world.settle()
    await world.judge()
    return world


@pytest.fixture
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two in a message and three in a batch: their edges are met."""
    monkeypatch.setattr(fan_out, "MOST_TOLD", 2)
    monkeypatch.setattr(fan_out, "BATCH", 3)


# Long enough for a failure to be brought down to its smallest story.
@pytest.mark.timeout(600)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(story=st.lists(_act, max_size=30))
async def test_none_is_skipped_and_none_told_twice(database: Database, small_spans: None, story: list[Act]) -> None:
    await live(database, story)


def _all_stories() -> Iterator[list[Act]]:
    """Two transactions, every order of their writing and ending, every ending, looked at in every set of gaps.

    Whoever writes first is writer 0.
    """
    steps = ((0, 1), (1, 0), (1, 1))
    orders = [((0, 0), *rest) for rest in permutations(steps) if rest.index((1, 0)) < rest.index((1, 1))]
    gaps = [set(chosen) for size in range(4) for chosen in combinations(range(3), size)]
    for order, endings, looked_at in product(orders, product((True, False), repeat=2), gaps):
        story: list[Act] = []
        for place, (writer, ending) in enumerate(order):
            story.append(End(writer, endings[writer]) if ending else Write(writer))
            story += [Sweep(), Pull(3)] if place in looked_at else []
        yield story


@pytest.mark.timeout(300)
async def test_of_two_transactions_none_is_skipped_in_any_order_and_who_goes_by_ids_skips_some(
    database: Database,
) -> None:
    skipped = [(await live(database, story)).naively_skipped for story in _all_stories()]
    assert len(skipped) == 3 * 4 * 8
    # Where the first to write commits behind the second, which was read before that: in half of the sets of gaps.
    assert Counter(skipped) == {1: 4, 0: 3 * 4 * 8 - 4}


async def test_a_second_sweep_waits_for_the_first_so_that_nothing_is_told_twice(database: Database) -> None:
    world = await new_world(database)
    await run(database, "UPDATE webhook_endpoints SET types = '{petition.closed}'")
    closed = NewMessage("petition.closed", {"petition_id": str(world.petition_id), "at": None})
    async with database.transaction() as session:
        await publish(session, [closed])
    await world.begin_sweep()

    async def sweep_too() -> None:
        async with database.transaction() as session:
            assert await spread(session) == []

    second = asyncio.create_task(sweep_too())
    connection = await database.pin()
    try:
        await wait_for_blocked(connection)
    finally:
        await connection.close()
    await world.end_sweep(committed=True)
    await second
    assert len(await run(database, "SELECT 1 FROM webhook_messages")) == len(world.endpoints)


async def test_many_who_write_sweep_and_pull_at_once_skip_nobody(database: Database) -> None:
    world = await new_world(database)
    written = asyncio.Event()

    async def write(number: int) -> None:
        for turn in range(10):
            opened = await world.begin()
            await world.sign(opened)
            await asyncio.sleep(0.001 * ((number * 7 + turn * 3) % 5))
            committed = (number + turn) % 4 > 0
            # The model must know before anybody can be told.
            world.committed |= set(opened.written) if committed else set()
            await opened.end(committed=committed)

    async def sweep() -> None:
        while not written.is_set():
            await world.sweep()

    async def pull_() -> None:
        while not written.is_set():
            await world.pull(2)

    others = [asyncio.create_task(task()) for task in (sweep, sweep, pull_)]
    await asyncio.gather(*map(write, range(4)))
    written.set()
    await asyncio.gather(*others)
    assert len(world.committed) == 30
    await world.settle()
    await world.judge()
