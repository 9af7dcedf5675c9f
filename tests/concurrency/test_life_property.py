"""The whole life of signatures, in any order: signed, held, confirmed, withdrawn, invalidated, restored, erased.

After each step the tallies are proven against the rows, and the rows against a plain model: what a signature is for its
signer, and whether an invalidation lies over it.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.kit.database.session import Database
from app.people.fields.emails import canonical
from app.signatures.background import runner
from app.signatures.engine.lanes import Lane, claim
from app.signatures.engine.scan import ScanProgress
from app.signatures.engine.transitions import Confirmation, Withdrawal
from app.signatures.me import service as own
from app.signatures.moderation import invalidations, on_hold
from app.signatures.services import SigningServices
from tests.support.application import services_for
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.invalidations import insert_invalidation
from tests.support.settings import FINGERPRINT
from tests.support.signing_engine import prepared
from tests.support.tallies import exact_count

pytestmark = pytest.mark.slow


PEOPLE = range(4)
COUNTRIES = ("UG", "FR")
PARTNERS = (UUID(int=7), UUID(int=8))
_numbers = count()


class Sign(NamedTuple):
    """Somebody signs, perhaps over a limit."""

    person: int
    held: bool


class Bring(NamedTuple):
    """A partner brings somebody."""

    person: int
    partner: UUID


class Confirm(NamedTuple):
    """Somebody follows the link of one of their attempts."""

    person: int
    attempt: int


class Withdraw(NamedTuple):
    """Somebody withdraws on their own page."""

    person: int


class Erase(NamedTuple):
    """Somebody wants to be forgotten."""

    person: int
    choice: str


class Invalidate(NamedTuple):
    """Staff find those of a country, or all, not to be genuine."""

    countries: tuple[str, ...]


class Undo(NamedTuple):
    """Staff undo one of the invalidations there have been."""

    number: int


class Release(NamedTuple):
    """Staff release what is held."""


_person = st.sampled_from(PEOPLE)
_act = st.one_of(
    st.builds(Sign, _person, st.sampled_from([False, False, True])),
    st.builds(Sign, _person, st.just(False)),
    st.builds(Bring, _person, st.sampled_from(PARTNERS)),
    st.builds(Confirm, _person, st.integers(0, 5)),
    st.builds(Confirm, _person, st.just(-1)),
    st.builds(Withdraw, _person),
    st.builds(Erase, _person, st.sampled_from(["keep", "withdraw"])),
    st.builds(Invalidate, st.sampled_from([("UG",), ("FR",), COUNTRIES])),
    st.builds(Undo, st.integers(0, 5)),
    st.builds(Release),
)
Act = Sign | Bring | Confirm | Withdraw | Erase | Invalidate | Undo | Release


@dataclass
class Life:
    """A signature as the model knows it."""

    country: str
    state: str
    attempt: UUID | None
    held: bool = False
    invalidated_by: UUID | None = None
    partner: UUID | None = None
    # Attempts that partners brought and that gave way, the last of each.
    brought: dict[UUID, UUID | None] = field(default_factory=dict)

    def makes_way(self, *, held: bool, partner: UUID | None = None) -> bool:
        """Whether a new attempt takes its place: of one that is pending, the newest stands.

        But a partner brings back nobody who has withdrawn, and takes no place of what it has itself brought.
        """
        if self.invalidated_by is not None:
            return False
        if self.state == "withdrawn":
            return partner is None
        return self.state == "pending" and (self.held or (not held and (partner is None or partner != self.partner)))

    def gives_way(self) -> dict[UUID, UUID | None]:
        """What is known of partners when another attempt takes its place."""
        return self.brought | ({self.partner: self.attempt} if self.partner else {})

    @property
    def counts(self) -> bool:
        return self.state == "confirmed" and self.invalidated_by is None


@dataclass
class World:
    """A petition, and what the model knows of it."""

    database: Database
    room: SigningServices
    lane: Lane
    petition_id: UUID
    slug: str
    by_mail: bool
    lives: dict[int, Life] = field(default_factory=dict)
    nobodys: list[Life] = field(default_factory=list)
    attempts: dict[int, list[UUID]] = field(default_factory=dict)
    invalidations: list[UUID] = field(default_factory=list)
    # The first attempt withdrawn of which nobody has been told: here nobody ever is.
    noted: dict[int, UUID | None] = field(default_factory=dict)

    def everybody(self) -> list[Life]:
        return [*self.lives.values(), *self.nobodys]

    def signer(self, number: int) -> bytes:
        return self.room.ring.digest(canonical(person(number)["email"]))

    async def act(self, act: Act) -> None:
        match act:
            case Sign(number, held):
                await self.sign(number, held=held)
            case Bring(number, partner):
                await self.sign(number, held=False, partner=partner)
            case Confirm(number, attempt):
                await self.confirm(number, attempt)
            case Withdraw(number):
                await self.withdraw(number)
            case Erase(number, choice):
                await self.erase(number, choice)
            case Invalidate(countries):
                await self.invalidate(countries)
            case Undo(number):
                await self.undo(number)
            case Release():
                await self.release()

    async def sign(self, number: int, *, held: bool, partner: UUID | None = None) -> None:
        country = COUNTRIES[number % 2]
        (signing,) = prepared(self.room.ring, self.petition_id, [person(number, country)])
        signing = signing._replace(signals=signing.signals._replace(on_hold=held or None, partner_id=partner))
        await (self.room.engine.bulk.submit([signing]) if partner else self.room.engine.submit(signing))
        self.attempts.setdefault(number, []).append(signing.id)
        life = self.lives.get(number)
        if life is None or life.makes_way(held=held, partner=partner):
            state = "pending" if held or self.by_mail else "confirmed"
            brought = life.gives_way() if life else {}
            self.lives[number] = Life(country, state, signing.id, held, partner=partner, brought=brought)

    async def confirm(self, number: int, attempt: int) -> None:
        tried = self.attempts.get(number)
        if not tried:
            return
        id_ = tried[attempt % len(tried)] if attempt >= 0 else tried[-1]
        await self.room.engine.submit(Confirmation(self.petition_id, self.signer(number), id_))
        life = self.lives.get(number)
        # Whichever link it is: each proves the mailbox, and its own receipt is the one that opens it from then on.
        if life and life.state == "pending" and not life.held:
            if id_ != life.attempt:
                life.brought = life.gives_way()
            life.state, life.attempt = "confirmed", id_

    async def withdraw(self, number: int) -> None:
        await self.room.engine.submit(Withdrawal(self.petition_id, self.signer(number), None))
        life = self.lives.get(number)
        if life and life.state in {"pending", "confirmed"}:
            life.state, life.held = "withdrawn", False
            self.noted.setdefault(number, life.attempt)

    async def erase(self, number: int, choice: Any) -> None:
        await own.SignatureStore(services_for(self.database, None, self.room)).erase(self.signer(number), choice)
        life = self.lives.pop(number, None)
        self.noted.pop(number, None)
        if life and choice == "keep" and life.state == "confirmed":
            self.nobodys.append(life)

    async def invalidate(self, countries: tuple[str, ...]) -> None:
        id_ = await insert_invalidation(self.database, self.petition_id, countries=list(countries), everything=True)
        met = [
            life
            for life in self.everybody()
            if life.country in countries and life.invalidated_by is None and life.state in {"pending", "confirmed"}
        ]
        await self.work()
        self.invalidations.append(id_)
        for life in met:
            life.invalidated_by = id_

    async def undo(self, number: int) -> None:
        if not self.invalidations:
            return
        id_ = self.invalidations[number % len(self.invalidations)]
        async with self.database.transaction() as session:
            await invalidations.undo(session, self.room.ring, self.petition_id, str(id_))
        await self.work()
        for life in self.everybody():
            if life.invalidated_by == id_:
                life.invalidated_by = None

    async def release(self) -> None:
        async with self.database.transaction() as session:
            await on_hold.release(session, self.slug)
        await self.work()
        for life in self.everybody():
            if life.held:
                life.held = False
                life.state = life.state if self.by_mail else "confirmed"

    async def work(self) -> None:
        """What the worker does, until there is nothing left."""
        progress = ScanProgress()
        while await runner.run_chunk(self.lane, self.room.ring, progress):
            continue

    async def judge(self) -> None:
        """Hold the rows and the tallies against the model."""
        async with self.database.snapshot() as session:
            assert await exact_count(session, self.petition_id) == sum(life.counts for life in self.everybody())
        rows = await run(
            self.database,
            "SELECT signer, id, coalesce(state_before, state) AS state, held, invalidation_id, sealed, mail_due_at,"
            " withdrawn_id, partner_id, brought_by, brought_ids"
            " FROM signatures WHERE petition_id = :id",
            id=self.petition_id,
        )
        by_signer = {row.signer: row for row in rows}
        for number in PEOPLE:
            row, life = by_signer.pop(self.signer(number), None), self.lives.get(number)
            assert (row is None) == (life is None)
            if row and life:
                told = (row.state, bool(row.held), row.invalidation_id, row.id)
                assert told == (life.state, life.held, life.invalidated_by, life.attempt)
                assert row.withdrawn_id == self.noted.get(number)
                assert row.partner_id == life.partner
                assert dict(zip(row.brought_by or (), row.brought_ids or (), strict=True)) == life.brought
                assert bool(row.sealed) == (life.state != "withdrawn")
                assert row.mail_due_at is None or self.by_mail
        assert not any(row.brought_by or row.brought_ids for row in by_signer.values())
        left = Counter((row.state, row.invalidation_id, row.sealed, row.withdrawn_id) for row in by_signer.values())
        assert left == Counter(("confirmed", life.invalidated_by, b"", None) for life in self.nobodys)


@pytest.fixture
async def lane(database: Database) -> Any:
    lane = await claim(database, FINGERPRINT)
    yield lane
    await lane.release()


# Long enough for a failure to be brought down to its smallest story.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("confirmation", ["none", "email"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(story=st.lists(_act, max_size=25))
async def test_every_life_is_counted_as_the_model_says(
    database: Database, rooms: list[SigningServices], lane: Lane, confirmation: str, story: list[Act]
) -> None:
    slug = f"petition-{next(_numbers)}"
    petition_id = await insert_petition(database, slug, confirmation=confirmation)
    world = World(database, rooms[0], lane, petition_id, slug, confirmation == "email")
    for act in story:
        await world.act(act)
        await world.judge()
