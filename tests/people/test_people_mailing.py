"""This room's mails: what is urgent first, nobody too many, and all that one round sends looked up at once."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
from sqlalchemy import event

from app.kit.abuse.rate_limits import Limiter, MemoryStorage
from app.kit.database.session import Database
from app.kit.mail.outcome import Outcome
from app.organizations.models import Organization
from app.people.mailing import PeopleMails
from app.settings import Settings
from app.signatures.background.mails import SignatureMails
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.factories import insert_petition
from tests.support.mailed_links import prove
from tests.support.people_mails import AMINA, TEMPLATES, Postman, token_in
from tests.support.time_travel import age
from tests.support.types import Json

Sign = Callable[..., Awaitable[Json]]
Join = Callable[..., Awaitable[None]]
HOUR = 3600.0


class Clock:
    """Seconds, which pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Limiter:
    return Limiter(MemoryStorage(clock=clock))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"mails_per_hour": 3})


@pytest.fixture
def postman(database: Database, settings: Settings, limiter: Limiter) -> Postman:
    return Postman(PeopleMails(database, settings, TEMPLATES, limiter))


@pytest.fixture
async def organizations(database: Database) -> list[str]:
    """The slugs of more organizations than anybody is welcomed by in an hour."""
    slugs = [f"partner-{number}" for number in range(5)]
    async with database.transaction() as session:
        session.add_all([Organization(slug=slug, name=slug, kind="partner") for slug in slugs])
    return slugs


@pytest.fixture
def join(agree: Sign, organizations: list[str], database: Database) -> Join:
    """Sign and prove it, and agree to hear from the first so many of them."""

    async def join(count: int, *people: str) -> None:
        for email in people or [AMINA]:
            await agree(email, consents=[{"organization": slug, "given": True} for slug in organizations[:count]])
        await sweep(database)

    return join


async def pass_an_hour(database: Database, clock: Clock) -> None:
    clock.seconds += HOUR
    await age(database, "mails", "due_at", "1 hour")


async def test_a_link_to_sign_in_goes_before_all_the_welcomes(
    client: httpx.AsyncClient, join: Join, postman: Postman, database: Database
) -> None:
    await join(3)
    await client.post("/v1/sign-ins", json={"email": AMINA})
    claim = await postman.source.claim(2)
    assert [bool(letter.mail and letter.mail.unsubscribe_url) for letter in claim.mails] == [False, True]
    rows = await run(
        database, "SELECT kind, extract(epoch FROM due_at - now()) AS left FROM mails WHERE mail_count = 1"
    )
    left = {row.kind: float(row.left) for row in rows}
    for letter in claim.mails:
        # What the sender reckons with is what the row says.
        assert left[letter.kind] <= letter.lease < left[letter.kind] + 60


async def test_a_round_needs_as_many_statements_for_many_mails_as_for_one(
    client: httpx.AsyncClient, join: Join, postman: Postman, database: Database
) -> None:
    statements: list[str] = []

    def note(*told: object) -> None:
        statements.append(str(told[2]))

    needed = []
    for people in (["a@example.org"], [f"b{number}@example.org" for number in range(9)]):
        await join(2, *people)
        for email in people:
            await client.post("/v1/sign-ins", json={"email": email})
        event.listen(database.engine.sync_engine, "before_cursor_execute", note)
        assert len(await postman.bring()) == 3 * len(people)
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)
        needed.append(len(statements))
        statements.clear()
    assert needed[0] == needed[1]


async def test_what_is_too_much_for_one_hour_is_sent_in_the_next(
    join: Join, postman: Postman, database: Database, clock: Clock
) -> None:
    await join(5)
    assert len(await postman.bring()) == 3
    assert await postman.bring() == []
    assert [tuple(row) for row in await run(database, "SELECT mail_count FROM mails")] == [(0,), (0,)]
    await age(database, "mails", "due_at", "59 minutes")
    assert await postman.bring() == []
    await age(database, "mails", "due_at", "1 minute")
    clock.seconds += HOUR
    assert len(await postman.bring()) == 2
    assert len({mail.text for mail in postman.brought}) == 5
    assert await run(database, "SELECT 1 FROM mails") == []


async def test_a_claim_that_is_postponed_altogether_says_that_it_took_something(join: Join, postman: Postman) -> None:
    await join(5)
    assert [(len(claim.mails), claim.taken_count) for claim in [await postman.source.claim(1) for _ in range(6)]] == [
        (1, 1),
        (1, 1),
        (1, 1),
        (0, 1),
        (0, 1),
        (0, 0),
    ]


async def test_what_is_still_too_much_waits_another_hour(
    join: Join, postman: Postman, database: Database, clock: Clock, settings: Settings
) -> None:
    postman.source._settings = settings.model_copy(update={"mails_per_hour": 2})
    await join(5)
    brought = [len(await postman.bring())]
    for _ in range(2):
        await pass_an_hour(database, clock)
        brought.append(len(await postman.bring()))
    assert brought == [2, 2, 1]


async def test_each_reader_has_an_hour_of_their_own(join: Join, postman: Postman) -> None:
    await join(4, AMINA, "bilal@example.org")
    recipients = [mail.recipient for mail in await postman.bring()]
    assert sorted(recipients) == [AMINA] * 3 + ["bilal@example.org"] * 3


@pytest.mark.parametrize("end", [Outcome.LATER, Outcome.UNKNOWN])
async def test_a_mail_is_counted_once_however_often_it_is_tried(
    join: Join, postman: Postman, database: Database, end: Outcome
) -> None:
    await join(3)
    for _ in range(3):
        assert len(await postman.bring(end)) == 3
        await age(database, "mails", "due_at", "1 minute")
    assert len(await postman.bring()) == 3
    assert await run(database, "SELECT 1 FROM mails") == []


async def test_what_is_not_sent_after_all_takes_up_no_room(
    client: httpx.AsyncClient, join: Join, postman: Postman, database: Database
) -> None:
    await join(5)
    await run(database, "INSERT INTO consents SELECT (json_populate_record(c, json_build_object("
              "'id', gen_random_uuid(), 'given', false, 'decided_at', c.decided_at + interval '1 minute'))).* "
              "FROM consents c JOIN organizations o ON o.id = c.organization_id "
              "WHERE o.slug IN ('partner-0', 'partner-1', 'partner-2')")  # fmt: skip
    assert len(await postman.bring()) == 2


async def test_links_to_sign_in_are_not_counted_with_other_mails(
    client: httpx.AsyncClient, join: Join, postman: Postman
) -> None:
    await join(5)
    assert len(await postman.bring()) == 3
    await client.post("/v1/sign-ins", json={"email": AMINA})
    assert len(await postman.bring()) == 1


async def test_mails_about_signatures_and_welcomes_are_counted_together_but_for_a_clients_first(
    client: httpx.AsyncClient, organizations: list[str], database: Database, settings: Settings, limiter: Limiter
) -> None:
    asking = Postman(SignatureMails(database, settings, TEMPLATES, limiter))  # type: ignore[arg-type]  # a source too
    welcoming = Postman(PeopleMails(database, settings, TEMPLATES, limiter))
    consents = [{"organization": slug, "given": True} for slug in organizations]
    body = {"given_name": "A", "family_name": "B", "email": AMINA, "country": "UG", "consents": consents}
    mails = []
    for slug in ("confirmed-by-mail", "another", "one-more"):
        await insert_petition(database, slug, confirmation="email")
        assert (await client.post(f"/v1/petitions/{slug}/signatures", json=body)).status_code == 201
        mails += await asking.bring()
    # The client's first mail to her, and two that are counted with all others.
    assert len(mails) == 3
    await prove(client, token_in(mails[0]), range(len(organizations)))
    await sweep(database)
    assert len(await welcoming.bring()) == 1


async def test_a_mail_program_anywhere_can_unsubscribe(
    client: httpx.AsyncClient, join: Join, postman: Postman, database: Database
) -> None:
    await join(1)
    (mail,) = await postman.bring()
    assert mail.unsubscribe_url
    data, headers = {"List-Unsubscribe": "One-Click"}, {"Sec-Fetch-Site": "cross-site"}
    assert (await client.post(mail.unsubscribe_url, data=data, headers=headers)).status_code == 200
    assert [row.given for row in await run(database, "SELECT given FROM consents ORDER BY decided_at")] == [True, False]


class LostStore(MemoryStorage):
    """A store of limits that is out of reach."""

    async def incr(self, *_: object, **__: object) -> int:
        raise OSError


async def test_while_limits_cannot_be_shared_mails_are_sent(join: Join, database: Database, settings: Settings) -> None:
    await join(5)
    postman = Postman(PeopleMails(database, settings, TEMPLATES, Limiter(LostStore())))
    assert len(await postman.bring()) == 5
