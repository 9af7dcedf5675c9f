"""Everything that strangers, a partner, staff and the person herself can do with one address, in any order.

After each act the rows are held against a plain model (`tests/support/attempts_model.py`) and the tallies against the
rows. Two rules are held against what is there, whatever the model says: no organization is ever told anything from an
attempt that its consent did not come with; and no act without the person's proof changes what her proven acts did.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.kit.clock import now
from app.kit.database.paging import Paging
from app.kit.database.session import Database
from app.kit.webhooks.message_types import MessageTypes
from app.organizations.models import Organization
from app.organizations.service import find
from app.partners.outbound.contacts.listing import page_of_contacts
from app.partners.outbound.feed.service import pull
from app.partners.outbound.message_types.fan_out import FanOut
from app.partners.outbound.message_types.types import MESSAGE_TYPES
from app.people.account import service as account
from app.people.consents import service as consents
from app.people.fields.emails import canonical
from app.people.personal_data import data_rights
from app.people.queries import PRECEDENCE, latest_of
from app.signatures.background import runner
from app.signatures.background.consents import ConsentRecorder
from app.signatures.background.withdrawal_messages import WithdrawalMessages
from app.signatures.engine import insert
from app.signatures.engine.lanes import Lane, claim
from app.signatures.engine.scan import ScanProgress
from app.signatures.engine.signings import Origin, Signing
from app.signatures.engine.transitions import Confirmation, Withdrawal
from app.signatures.me.service import SignatureStore
from app.signatures.moderation import invalidations, on_hold
from app.signatures.services import SigningServices
from tests.support.application import services_for
from tests.support.attempts import told_id
from tests.support.attempts_model import Attempt, Decision, Signer
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.invalidations import insert_invalidation
from tests.support.partners import campaign_of, insert_partner, insert_partnership
from tests.support.settings import FINGERPRINT
from tests.support.signing_engine import prepared
from tests.support.tallies import exact_count

pytestmark = pytest.mark.slow

COUNTRIES = ("UG", "FR")
PARTNERS = ("first", "second")
ORGANIZATIONS = ("movement", *PARTNERS)
# Two strangers and herself, by the client addresses they sign from.
CLIENTS = (b"stranger", b"another.", b"herself.")
_TYPES = MessageTypes(MESSAGE_TYPES)
_numbers = count()


class Sign(NamedTuple):
    """Somebody signs with her address; who it is, nobody here can know."""

    client: bytes
    country: str
    consents: tuple[str, ...]
    held: bool = False


class Bring(NamedTuple):
    """A partner brings her."""

    partner: str
    country: str
    consents: tuple[str, ...]


class Import(NamedTuple):
    """She is in a file that staff import."""

    country: str
    consents: tuple[str, ...]


class Confirm(NamedTuple):
    """She follows the link of one of the attempts, and ticks some of its consents."""

    attempt: int
    ticked: frozenset[int]


class Withdraw(NamedTuple):
    """Somebody withdraws an attempt by the receipt of its signing, or she by the link in its mail."""

    attempt: int
    proven: bool


class WithdrawOwn(NamedTuple):
    """She withdraws on her own page."""


class Decide(NamedTuple):
    """She gives or takes back a consent on her own page."""

    organization: str
    given: bool


class Erase(NamedTuple):
    """She wants to be forgotten."""

    choice: str


class Invalidate(NamedTuple):
    """Staff find those of a country not to be genuine."""

    country: str


class Undo(NamedTuple):
    """Staff undo one of the invalidations there have been."""

    number: int


class Release(NamedTuple):
    """Staff release what is on hold."""


_consents = st.lists(st.sampled_from(ORGANIZATIONS), unique=True, max_size=2).map(tuple)
_country = st.sampled_from(COUNTRIES)
_sign = st.builds(Sign, st.sampled_from(CLIENTS), _country, _consents, st.sampled_from([False, False, False, True]))
_confirm = st.builds(Confirm, st.integers(0, 30), st.frozensets(st.integers(0, 1)))
_act = st.one_of(
    _sign,
    _sign,
    st.builds(Bring, st.sampled_from(PARTNERS), _country, _consents),
    st.builds(Import, _country, _consents),
    _confirm,
    _confirm,
    st.builds(Withdraw, st.integers(0, 30), st.booleans()),
    st.builds(Withdraw, st.integers(0, 30), st.just(False)),
    st.builds(WithdrawOwn),
    st.builds(Decide, st.sampled_from(ORGANIZATIONS), st.booleans()),
    st.builds(Erase, st.sampled_from(["keep", "withdraw"])),
    st.builds(Invalidate, _country),
    st.builds(Undo, st.integers(0, 5)),
    st.builds(Release),
)
Act = Sign | Bring | Import | Confirm | Withdraw | WithdrawOwn | Decide | Erase | Invalidate | Undo | Release
# What anybody, or a partner or staff in anybody's name, can do without her.
_WITHOUT_PROOF = (Sign, Bring, Import)


def _needs_no_proof(act: Act) -> bool:
    return isinstance(act, _WITHOUT_PROOF) or (isinstance(act, Withdraw) and not act.proven)


class Proven(NamedTuple):
    """What her proven acts have done: which attempt counts, what the ledger says, and what others are shown."""

    standing: tuple[Any, ...] | None
    taken_back: bool
    ledger: dict[str, tuple[bool, Any]]
    contacts: dict[str, str | None]
    names: tuple[str | None, str | None] | None


@dataclass
class World:
    """Her, the petition, and the organizations."""

    database: Database
    room: SigningServices
    lane: Lane
    petition_id: UUID
    slug: str
    model: Signer
    organizations: dict[str, Organization]
    attempts: list[Attempt] = field(default_factory=list)
    nobodys: list[Attempt] = field(default_factory=list)
    invalidations: list[UUID] = field(default_factory=list)
    names: Iterator[int] = field(default_factory=count)

    @property
    def signer(self) -> bytes:
        return self.room.ring.digest(canonical(person(0)["email"]))

    async def act(self, act: Act) -> None:  # noqa: C901 - one line for each act
        match act:
            case Sign(client, country, consents, held):
                await self.sign(country, consents, client=client, held=held)
            case Bring(partner, country, consents):
                await self.sign(country, consents, partner=partner)
            case Import(country, consents):
                await self.sign(country, consents, imported=True)
            case Confirm(attempt, ticked) if self.attempts:
                await self.confirm(self.chosen(attempt), ticked)
            case Withdraw(attempt, proven) if self.attempts:
                await self.withdraw(self.chosen(attempt), proven=proven)
            case WithdrawOwn():
                await self.room.engine.submit(Withdrawal(self.petition_id, self.signer, None, proven=True))
                self.noted_destroyed(self.model.withdraw_own)
            case Decide(organization, given_):
                await self.decide(organization, given_=given_)
            case Erase(choice):
                await self.erase(choice)
            case Invalidate(country):
                await self.invalidate(country)
            case Undo(number) if self.invalidations:
                await self.undo(self.invalidations[number % len(self.invalidations)])
            case Release():
                await self.release()
        await self.sweep()
        self.enter_due()

    async def sweep(self) -> None:
        """What the worker enters, tells and fans out."""
        ring = self.room.ring
        for sweep in (WithdrawalMessages(ring), ConsentRecorder(ring), FanOut(_TYPES)):
            async with self.database.transaction() as session:
                await sweep(session)

    def chosen(self, number: int) -> Attempt:
        return self.attempts[number % len(self.attempts)]

    async def sign(self, country: str, consents_: tuple[str, ...], **more: Any) -> None:
        name = f"Given{next(self.names)}"
        said = [{"organization": self.organizations[one].slug, "given": True} for one in consents_]
        body = person(0, country, given_name=name, family_name=f"Family of {name}", consents=said)
        (signing,) = prepared(self.room.ring, self.petition_id, [body])
        new = Attempt(signing.id, name, country, signing.tally_keys.signed_at, consents_, "pending", **more)
        await self.submit(signing, new)
        self.attempts.append(new)
        self.model.sign(new)

    async def submit(self, signing: Signing, new: Attempt) -> None:
        partner_id = self.organizations[new.partner].id if new.partner else None
        signals = signing.signals._replace(address_digest=new.client, on_hold=new.held or None, partner_id=partner_id)
        signing = signing._replace(signals=signals)
        # Once more, as after a commit of which nobody knows: that is harmless.
        for _ in range(2):
            if new.partner:
                await self.room.engine.bulk.submit([signing])
            elif new.imported:
                await insert.sign(self.lane, [signing], Origin.IMPORT)
            else:
                await self.room.engine.submit(signing)

    async def confirm(self, attempt: Attempt, ticked: frozenset[int]) -> None:
        accepted = sum(1 << number for number in ticked)
        for _ in range(2):
            await self.room.engine.submit(Confirmation(self.petition_id, self.signer, attempt.id, accepted))
        self.model.confirm(attempt.id, set(ticked))

    async def withdraw(self, attempt: Attempt, *, proven: bool) -> None:
        await self.room.engine.submit(Withdrawal(self.petition_id, self.signer, attempt.id, proven=proven))
        self.noted_destroyed(lambda: self.model.withdraw(attempt.id, proven=proven))

    def noted_destroyed(self, act: Any) -> None:
        """Unproven consents go with the attempt that brought them."""
        stood = {one.id for one in self.model.everything() if one.stands}
        act()
        gone = stood - {one.id for one in self.model.everything() if one.stands}
        taken = [one for one in self.model.ledger if one.attempt in gone and one.given and not one.proven]
        self.model.ledger += [Decision(one.organization, False, False, now(), one.attempt) for one in taken]

    async def decide(self, organization: str, *, given_: bool) -> None:
        async with self.database.transaction() as session:
            # As signing in does.
            await account.remember(session, self.room.ring, self.signer, email=person(0)["email"])
            entry = await consents.decide(
                session, self.room.ring, self.signer, self.organizations[organization].id, "news", given=given_
            )
        self.model.ledger.append(Decision(organization, given_, True, entry.decided_at))

    async def erase(self, choice: Any) -> None:
        store = SignatureStore(services_for(self.database, None, self.room))
        await data_rights.erase(self.database, self.room.ring, [store], self.signer, choice)
        row = self.model.row
        if row and choice == "keep" and row.state == "confirmed":
            self.nobodys.append(row)
        self.model = Signer(self.model.by_mail)

    async def invalidate(self, country: str) -> None:
        # As staff of the version before could: a rule that matches so few cannot be drafted any more.
        id_ = await insert_invalidation(self.database, self.petition_id, countries=[country], everything=True)
        await self.work()
        self.invalidations.append(id_)
        self.model.invalidate(country, id_)
        for one in self.nobodys:
            if one.country == country and not one.invalidated_by:
                one.invalidated_by = id_

    async def undo(self, id_: UUID) -> None:
        async with self.database.transaction() as session:
            await invalidations.undo(session, self.room.ring, self.petition_id, str(id_))
        await self.work()
        self.model.undo(id_)
        for one in self.nobodys:
            one.invalidated_by = None if one.invalidated_by == id_ else one.invalidated_by

    async def release(self) -> None:
        async with self.database.transaction() as session:
            await on_hold.release(session, self.slug)
        await self.work()
        self.model.release()

    async def work(self) -> None:
        progress = ScanProgress()
        while await runner.run_chunk(self.lane, self.room.ring, progress):
            continue

    def enter_due(self) -> None:
        """What the sweep enters: what is proven, and what was brought by the organization itself and stands."""
        for one in self.model.everything():
            is_due = one.counts and (one.proven or (one.is_attested and one is self.model.row))
            if is_due and (one.id, one.proven) not in self.model.entered:
                self.model.entered.add((one.id, one.proven))
                named = one.accepted if one.proven else [name for name in one.consents if name == one.attester]
                self.model.ledger += [Decision(name, True, one.proven, one.signed_at, one.id) for name in named]

    # What is there, and what must be.

    async def judge(self) -> None:
        await self.judge_rows()
        await self.judge_ledger()
        for organization in ORGANIZATIONS:
            await self.judge_shown(organization)

    async def judge_rows(self) -> None:
        alive = [*self.nobodys, *([self.model.row] if self.model.row else [])]
        async with self.database.snapshot() as session:
            assert await exact_count(session, self.petition_id) == sum(one.counts for one in alive)
        rows = await run(self.database, "SELECT * FROM signatures WHERE petition_id = :id", id=self.petition_id)
        mine = [row for row in rows if row.signer == self.signer]
        assert [_seen(row) for row in mine] == [_expected(one) for one in [self.model.row] if one]
        assert [bool(row.taken_back) for row in mine] == [bool(self.model.taken_back) for _ in mine]
        others = await run(
            self.database, "SELECT * FROM signature_attempts WHERE petition_id = :id ORDER BY id", id=self.petition_id
        )
        assert [_seen(row) for row in others] == [
            _expected(one) for one in sorted(self.model.waiting, key=lambda one: one.id)
        ]
        nameless = Counter((row.state, row.invalidation_id, row.sealed) for row in rows if row.signer != self.signer)
        assert nameless == Counter((one.shown_state, one.invalidated_by, b"") for one in self.nobodys)

    def latest(self, organization: str) -> Decision | None:
        said = [one for one in self.model.ledger if one.organization == organization]
        ranked = sorted(enumerate(said), key=lambda pair: (pair[1].proven, pair[1].decided_at, pair[0]))
        return ranked[-1][1] if ranked else None

    async def judge_ledger(self) -> None:
        async with self.database.transaction() as session:
            latest = await latest_of(session, self.signer)
        slugs = {organization.id: name for name, organization in self.organizations.items()}
        assert PRECEDENCE == ("proven", "decided_at", "id")
        assert {slugs[id_]: (one.given, one.proven, one.attempt_id) for (id_, _), one in latest.items()} == {
            name: (one.given, one.proven, one.attempt) for name in ORGANIZATIONS if (one := self.latest(name))
        }

    async def judge_shown(self, organization: str) -> None:
        """Whatever an organization is told comes from an attempt that its consent came with."""
        found = self.organizations[organization]
        async with self.database.transaction() as session:
            page = await page_of_contacts(session, self.room.ring, found, Paging())
            feed = (await pull(session, self.room.ring, found.id, Paging())).items if organization in PARTNERS else []
        latest = self.latest(organization)
        mine = self.came_with(organization)
        assert {signer.given_name for signer in feed} <= {one.name for one in mine}
        assert all(str(signer.signature_id) in {told_id(found.id, one.id) for one in mine} for signer in feed)
        known = {one.name for one in mine} | (self.own_names() if latest and latest.attempt is None else set())
        assert {one.given_name for one in page.items} <= known
        if latest is None or not latest.given:
            assert not feed
            assert not page.items
            return
        assert len(page.items) == 1
        told = {told_id(found.id, one.id) for one in mine if one.proven and one.counts} if self.model.counts else set()
        assert told <= {str(signer.signature_id) for signer in feed} or organization not in PARTNERS

    def came_with(self, organization: str) -> list[Attempt]:
        """Attempts whose consent to this organization is proven, or was brought by itself."""
        return [
            one
            for one in self.attempts
            if (
                (one.id, True) in self.model.entered
                and any(said.attempt == one.id and said.organization == organization for said in self.model.ledger)
            )
            or ((one.id, False) in self.model.entered and one.attester == organization and organization in one.consents)
        ]

    def own_names(self) -> set[str | None]:
        """The names of attempts that she has proven: what she said of herself. Or none."""
        return {None} | {one.name for one in self.attempts if (one.id, True) in self.model.entered}

    async def proven(self) -> Proven:
        """What her proven acts have done, as it is in the database and as others are shown it."""
        (row,) = await run(
            self.database,
            "SELECT (SELECT (id, state, country, proven)::text FROM signatures WHERE petition_id = :id AND signer = :s"
            " AND proven), (SELECT taken_back IS TRUE FROM signatures WHERE petition_id = :id AND signer = :s)",
            id=self.petition_id,
            s=self.signer,
        )
        contacts, ledger = {}, {}
        async with self.database.transaction() as session:
            latest = await latest_of(session, self.signer)
            for name, organization in self.organizations.items():
                entry = latest.get((organization.id, "news"))
                if entry is not None and entry.proven:
                    ledger[name] = (entry.given, entry.id)
                    page = await page_of_contacts(session, self.room.ring, organization, Paging())
                    contacts[name] = page.items[0].given_name if page.items else None
            details = await account.details_of(session, self.room.ring, self.signer)
        names = (details.given_name, details.family_name) if details and details.proven else None
        return Proven(row[0], bool(row[1]), ledger, contacts, names)


def _seen(row: Any) -> tuple[Any, ...]:
    return (
        row.id, row.state, row.country, bool(row.proven), bool(row.held), row.invalidation_id, bool(row.sealed),
        bool(row.imported), row.partner_id is not None,
    )  # fmt: skip


def _expected(one: Attempt) -> tuple[Any, ...]:
    return (
        one.id, one.shown_state, one.country, one.proven, one.held, one.invalidated_by, one.stands, one.imported,
        one.partner is not None,
    )  # fmt: skip


@pytest.fixture
async def lane(database: Database) -> Any:
    lane = await claim(database, FINGERPRINT)
    yield lane
    await lane.release()


async def new_world(database: Database, room: SigningServices, lane: Lane, confirmation: str) -> World:
    number = next(_numbers)
    slug = f"petition-{number}"
    petition_id = await insert_petition(database, slug, confirmation=confirmation)
    for name in PARTNERS:
        id_, _ = await insert_partner(database, f"{name}-{number}")
        await insert_partnership(database, id_, await campaign_of(database, petition_id))
    slugs = {"movement": "movement"} | {name: f"{name}-{number}" for name in PARTNERS}
    rows = await run(database, "SELECT slug FROM organizations WHERE slug = ANY(:slugs)", slugs=list(slugs.values()))
    assert len(rows) == len(slugs)
    organizations = {}
    async with database.transaction() as session:
        for name, slug_ in slugs.items():
            organizations[name] = await find(session, slug_)
    # She is somebody else in every world, so that nothing is left of another.
    await run(database, "DELETE FROM consents")
    for table in ("people", "contacts", "signature_attempts", "outbox_messages"):
        await run(database, f"DELETE FROM {table}")
    return World(database, room, lane, petition_id, slug, Signer(confirmation == "email"), organizations)


# Long enough for a failure to be brought down to its smallest story.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("confirmation", ["none", "email"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(story=st.lists(_act, min_size=8, max_size=20))
async def test_nobody_speaks_for_another(
    database: Database, rooms: list[SigningServices], lane: Lane, confirmation: str, story: list[Act]
) -> None:
    world = await new_world(database, rooms[0], lane, confirmation)
    for act in story:
        before = await world.proven()
        await world.act(act)
        await world.judge()
        if _needs_no_proof(act):
            after = await world.proven()
            assert after.standing == (before.standing or after.standing)
            assert after.taken_back >= before.taken_back
            assert {name: after.ledger[name] for name in before.ledger} == before.ledger
            assert {name: after.contacts[name] for name in before.contacts} == before.contacts
            assert after.names == before.names
