"""Whatever people, staff and imports do, in any order and at once: every tally is exact at every moment.

Two hot rooms work on one database as two processes would. After each step the tallies are proven against the rows,
and the rows against a model that knows nothing but sets. What happens at once may happen in any order, so of a group
the model is told only what every order leads to.
"""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.kit.database.session import Database
from app.people.fields.emails import canonical
from app.petitions import service as petitions
from app.signatures import service
from app.signatures.engine.attempts import MOST_WAITING
from app.signatures.engine.lanes import Lane, claim
from app.signatures.importing import Import, Line
from app.signatures.schemas import ImportedSigning, SigningBody
from app.signatures.service import PetitionNotOpen
from app.signatures.services import SigningServices
from app.signatures.signing.sealing import write_receipt
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.settings import FINGERPRINT
from tests.support.tallies import exact_count

pytestmark = pytest.mark.slow


PEOPLE, PETITIONS = range(5), range(2)
WITHDRAWN = "withdrawn"
# How a signature stands: not at all, withdrawn, or by the id of an attempt.
Standing = UUID | str | None
_numbers = count()


class Sign(NamedTuple):
    """Somebody signs through one of the rooms."""

    room: int
    petition: int
    person: int
    facets: dict[str, Any]


class Withdraw(NamedTuple):
    """Somebody withdraws, with any of the receipts given so far."""

    room: int
    petition: int
    receipt: int


class Turn(NamedTuple):
    """Staff close or reopen a petition."""

    petition: int
    verb: str


class Bring(NamedTuple):
    """An operator imports a file."""

    petition: int
    people: list[int]
    signed_at: datetime


class Attempts(NamedTuple):
    """What stands of a person, and the ids of all attempts, those that wait too."""

    stands: Standing
    public: set[UUID]
    imported: set[UUID]


_petition = st.sampled_from(PETITIONS)
_room = st.sampled_from((0, 1))
_facets = st.fixed_dictionaries(
    {"country": st.sampled_from(["UG", "FR"])},
    optional={
        "region": st.sampled_from(["North", ""]),
        "source": st.sampled_from(["letter", "-"]),
        "referral": st.sampled_from(["a friend", f"group:{UUID(int=1)}", f"event:{UUID(int=2)}"]),
    },
)
_sign = st.builds(Sign, _room, _petition, st.sampled_from(PEOPLE), _facets)
_withdraw = st.builds(Withdraw, _room, _petition, st.integers(0, 20))
_turn = st.builds(Turn, _petition, st.sampled_from(["close", "reopen"]))
_moments = st.sampled_from([datetime(2019, 3, 21, 23, 59, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)])
_bring = st.builds(Bring, _petition, st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4), _moments)
_act = st.one_of(_sign, _sign, _sign, _withdraw, _withdraw, _turn, _bring)
_group = st.one_of(st.lists(_act, min_size=1, max_size=1), st.lists(_act, min_size=2, max_size=6))
_story = st.lists(_group, max_size=12)

Act = Sign | Withdraw | Turn | Bring


@dataclass
class Petition:
    """A petition as the model knows it."""

    id: UUID
    slug: str
    open: bool = True
    attempts: dict[int, Attempts] = field(default_factory=dict)
    receipts: list[tuple[int, UUID]] = field(default_factory=list)


@dataclass
class World:
    """The two rooms, an importer's lane, and what the model knows."""

    database: Database
    rooms: list[SigningServices]
    lane: Lane
    petitions: list[Petition]
    importing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def signer(self, number: int) -> bytes:
        return self.rooms[0].ring.digest(canonical(person(number)["email"]))

    async def act(self, act: Act) -> Any:
        petition = self.petitions[act.petition]
        match act:
            case Sign(room, _, number, facets):
                return await self._sign(self.rooms[room], petition, person(number) | facets)
            case Withdraw(room, _, receipt):
                return await self._withdraw(self.rooms[room], petition, receipt)
            case Turn(_, verb):
                async with self.database.transaction() as session:
                    if verb == "close":
                        return await petitions.close(session, petition.slug)
                    return await petitions.reopen(session, petition.slug, None)
            case Bring(_, people, signed_at):
                return await self._bring(petition, people, signed_at)

    async def _sign(self, room: SigningServices, petition: Petition, body: dict[str, Any]) -> UUID | None:
        try:
            _, signing = await service.sign(room, petition.slug, SigningBody.model_validate(body))
        except PetitionNotOpen:
            return None
        return signing.id

    async def _withdraw(self, room: SigningServices, petition: Petition, receipt: int) -> tuple[int, UUID] | None:
        if not petition.receipts:
            return None
        number, id_ = petition.receipts[receipt % len(petition.receipts)]
        written = write_receipt(room.ring, petition.id, self.signer(number), id_)
        await service.withdraw(room, petition.id, written)
        return number, id_

    async def _bring(self, petition: Petition, people: Sequence[int], signed_at: datetime) -> None:
        bodies = [ImportedSigning.model_validate(person(number, signed_at=signed_at)) for number in people]
        entry = await self.rooms[0].directory.refresh(petition.slug)
        assert entry is not None
        async with self.importing:
            run_of = Import(self.lane, self.rooms[0].ring, entry, io.StringIO())
            done = await run_of.run(Line(number, body) for number, body in enumerate(bodies))
        assert done.counted + done.duplicate + done.refused == done.read == len(people)

    async def attempts(self, petition: Petition) -> dict[int, Attempts]:
        """What is kept of everybody, each with at most one row that stands."""
        asked = "SELECT signer, id, state, imported FROM {} WHERE petition_id = :id"
        stand = await run(self.database, asked.format("signatures"), id=petition.id)
        wait = await run(self.database, asked.format("signature_attempts"), id=petition.id)
        by_signer = {row.signer: WITHDRAWN if row.state == "withdrawn" else row.id for row in stand}
        assert len(by_signer) == len(stand)
        kept = [row for row in (*stand, *wait) if row.state != "withdrawn"]
        assert {row.state for row in kept} <= {"confirmed"}
        return {
            number: Attempts(
                by_signer.get(self.signer(number)),
                {row.id for row in kept if row.signer == self.signer(number) and not row.imported},
                {row.id for row in kept if row.signer == self.signer(number) and row.imported},
            )
            for number in PEOPLE
        }


@pytest.fixture
async def world(database: Database, rooms: list[SigningServices]) -> Any:
    lane = await claim(database, FINGERPRINT)
    yield World(database, rooms, lane, [])
    await lane.release()


# Long enough for a failure to be brought down to its smallest story.
@pytest.mark.timeout(600)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(story=_story)
async def test_every_tally_is_exact_after_every_step(world: World, story: list[list[Act]]) -> None:
    world.petitions = []
    for _ in PETITIONS:
        slug = f"petition-{next(_numbers)}"
        world.petitions.append(Petition(await insert_petition(world.database, slug), slug))
    for group in story:
        results = await asyncio.gather(*map(world.act, group))
        for number, petition in enumerate(world.petitions):
            done = [(act, result) for act, result in zip(group, results, strict=True) if act.petition == number]
            await judge(world, petition, done)


async def judge(world: World, petition: Petition, done: list[tuple[Act, Any]]) -> None:
    """Hold what has come about against what the model allows, then go on from there."""
    after = await world.attempts(petition)
    turned = [act.verb for act, _ in done if isinstance(act, Turn)]
    for number in PEOPLE:
        judge_person(petition, number, after[number], done, turned=bool(turned))
    async with world.database.snapshot() as session:
        counted = await exact_count(session, petition.id)
    assert counted == sum(isinstance(one.stands, UUID) for one in after.values())
    petition.attempts = after
    petition.receipts += [(act.person, id_) for act, id_ in done if isinstance(act, Sign) and id_]
    if len(set(turned)) == 1:
        petition.open = turned[0] == "reopen"
    elif turned:
        rows = await run(world.database, "SELECT state FROM petitions WHERE id = :id", id=petition.id)
        petition.open = rows[0].state == "open"


def judge_person(
    petition: Petition, number: int, after: Attempts, done: list[tuple[Act, Any]], *, turned: bool
) -> None:
    """Each attempt is kept until it is withdrawn itself, and one of them stands as long as there is any."""
    before = petition.attempts.get(number, Attempts(None, set(), set()))
    tried = [id_ for act, id_ in done if isinstance(act, Sign) and act.person == number]
    signed = {id_ for id_ in tried if id_}
    brought = any(isinstance(act, Bring) and number in act.people for act, _ in done)
    gone = {result[1] for act, result in done if isinstance(act, Withdraw) and result and result[0] == number}
    if not turned:
        assert len(signed) == (len(tried) if petition.open else 0)
    expected = (before.public | signed) - gone
    assert after.public <= expected
    assert len(expected) > MOST_WAITING or after.public == expected
    assert len(after.public) <= MOST_WAITING + 1
    assert after.imported >= before.imported
    assert len(after.imported) <= bool(before.imported or brought)
    if brought and petition.open and not turned:
        assert after.imported
    if isinstance(before.stands, UUID) and before.stands not in gone:
        assert after.stands == before.stands
    elif after.public or after.imported:
        assert after.stands in after.public | after.imported
    else:
        # What somebody withdrew leaves a row that says so.
        assert after.stands == (WITHDRAWN if before.stands else None)
