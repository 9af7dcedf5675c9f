"""Confirming by mail: a signature counts when the link is followed and its button pressed, and not before."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from app.kit.abuse.rate_limits import open_limiter
from app.kit.clock import now
from app.kit.database.session import Database
from app.kit.mail.outcome import Outcome
from app.kit.mail.sender import Result
from app.settings import Settings
from app.signatures.background.consents import ConsentRecorder
from app.signatures.background.mails import SignatureMails
from app.signatures.signing.sealing import unseal, write_link
from tests.support.application import running_worker, serving
from tests.support.attempts import link_of, own_id, prove
from tests.support.databases import run, wait_until
from tests.support.factories import insert_petition, people_like, person
from tests.support.people_mails import TEMPLATES, token_in
from tests.support.smtp import SmtpServer
from tests.support.tallies import exact_count, exact_counts
from tests.support.types import Json

AT = "/v1/petitions/end-the-ban"
AMINA = person(1, given_name="Amina", email="amina@example.org")


@pytest.fixture
async def petition_id(database: Database) -> UUID:
    """An open petition whose signatures are confirmed by mail."""
    return await insert_petition(database, confirmation="email")


@pytest.fixture
def mailbox() -> AsyncIterator[SmtpServer]:
    with SmtpServer() as mailbox:
        yield mailbox


@pytest.fixture
async def worker(settings: Settings, mailbox: SmtpServer) -> AsyncIterator[Settings]:
    async with running_worker(settings, smtp_url=SecretStr(mailbox.url)) as chosen:
        yield chosen


async def sign(client: httpx.AsyncClient, body: Json = AMINA) -> Json:
    answer = await client.post(f"{AT}/signatures", json=body)
    assert answer.status_code == 201, answer.text
    told: Json = answer.json()
    return told


async def count_of(client: httpx.AsyncClient) -> int:
    told: int = (await client.get(f"{AT}/count")).json()["signature_count"]
    return told


def token_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["token"][0]


async def confirm(client: httpx.AsyncClient, token: str, *consents: int) -> httpx.Response:
    return await client.post("/v1/confirmations", json={"token": token, "consents": consents})


async def withdraw(client: httpx.AsyncClient, receipt: str) -> None:
    answer = await client.post(f"{AT}/withdrawals", json={"receipt": receipt})
    assert (answer.status_code, answer.json()) == (200, {"status": "withdrawn"})


def assert_gone(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:multitude:problem:signature-gone")


async def test_a_signature_counts_once_its_link_was_followed(
    client: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database
) -> None:
    assert (await sign(client))["status"] == "pending"
    (mail,) = await mailbox.arrived(1)
    assert mail.recipient == "amina@example.org"
    assert "Amina" not in mail.text + mail.html, "nobody has proven that name yet"
    assert "End the ban" in mail.text
    assert "ban" not in mail.subject.lower()
    assert await exact_counts(database) == {"end-the-ban": 0}
    answers = [await confirm(client, token_of(mail.links[0])) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.text.replace(answer.json()["receipt"], "") for answer in answers}) == 1
    assert len({(*answer.headers.keys(), len(answer.text)) for answer in answers}) == 1
    assert answers[0].json()["status"] == "confirmed"
    assert await count_of(client) == 1
    assert await exact_counts(database) == {"end-the-ban": 1}


async def settled(database: Database) -> None:
    """Wait until it is written down of every mail that it was sent."""
    await wait_until(
        database,
        """SELECT NOT EXISTS (SELECT FROM signatures WHERE due_mail IS NOT NULL)
        AND NOT EXISTS (SELECT FROM signature_attempts WHERE due_mail IS NOT NULL)""",
    )


async def test_whoever_opens_links_changes_nothing(
    client: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database
) -> None:
    """A mail scanner fetches every link of every mail, with GET and HEAD, more than once."""
    await asyncio.gather(*(sign(client, body) for body in people_like(5)))
    mails = await mailbox.arrived(5)
    await settled(database)
    links = {link for mail in mails for link in [*mail.links, *re.findall(r'href="([^"]+)"', mail.html)]}
    before = await run(database, "SELECT petition_id, signer, id, state, xmin::text FROM signatures ORDER BY signer")
    for link in links:
        url = urlsplit(link)
        for method in ("GET", "HEAD", "GET"):
            answer = await client.request(method, f"{url.path}?{url.query}")
            assert answer.status_code in {200, 405}
    after = await run(database, "SELECT petition_id, signer, id, state, xmin::text FROM signatures ORDER BY signer")
    assert before == after
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_our_own_page_confirms_when_its_button_is_pressed(
    client: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database
) -> None:
    await sign(client, AMINA | {"locale": "ar"})
    (mail,) = await mailbox.arrived(1)
    url = urlsplit(mail.links[0])
    assert mail.links[0].startswith(worker.public_url)
    page = await client.get(f"{url.path}?{url.query}", headers={"Accept-Language": "ar"})
    assert 'dir="rtl"' in page.text
    (field,) = re.findall(r'name="token" value="([^"]+)"', page.text)
    answers = [await client.post("/confirm", data={"token": field}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].text == answers[1].text
    assert await exact_counts(database) == {"end-the-ban": 1}
    wrong = await client.post("/confirm", data={"token": field[:-2]})
    assert wrong.status_code == 404
    assert field not in wrong.text


async def test_links_that_are_forged_foreign_or_too_old_are_refused_alike(
    client: httpx.AsyncClient, petition_id: UUID, database: Database, settings: Settings
) -> None:
    told = await sign(client)
    (row,) = await run(database, "SELECT signer, id FROM signatures")
    ring = settings.key_ring
    good = write_link(ring, petition_id, row.signer, row.id, now() - timedelta(days=29))
    old = write_link(ring, petition_id, row.signer, row.id, now() - timedelta(days=31))
    tokens = [old, told["receipt"], good[:-1], good + "A", "A" * 110, "%%%", "é", " " + good]
    answers = [await confirm(client, token) for token in tokens]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text.replace(answer.json()["request_id"], "") for answer in answers}) == 1
    for body in ({}, {"token": ""}, {"token": 7}, {"token": good, "more": 1}, {"token": "A" * 201}):
        assert (await client.post("/v1/confirmations", json=body)).status_code == 422
    assert await exact_counts(database) == {"end-the-ban": 0}
    # A link of an attempt that is not there confirms nothing, and says so: nobody but us can have written it.
    for signer, id_ in ((uuid4().bytes, uuid4()), (row.signer, uuid4())):
        assert_gone(await confirm(client, write_link(ring, petition_id, signer, id_, now())))
    assert await exact_counts(database) == {"end-the-ban": 0}
    assert (await confirm(client, good)).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_whoever_signs_again_is_told_by_mail_and_by_nothing_else(
    client: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database
) -> None:
    first = await client.post(f"{AT}/signatures", json=AMINA)
    asked = (await mailbox.arrived(1))[0]
    await settled(database)
    again = await client.post(f"{AT}/signatures", json=AMINA)
    reminded = (await mailbox.arrived(2))[1]
    await settled(database)
    await confirm(client, token_of(reminded.links[0]))
    third = await client.post(f"{AT}/signatures", json=AMINA)
    told = (await mailbox.arrived(3))[2]
    assert asked.subject == reminded.subject == told.subject, "whoever sees the mailbox learns nothing"
    assert len({mail.links[0] for mail in (asked, reminded)}) == 2, "each attempt has a link of its own"
    assert not {"Amina"} & set(re.findall(r"\w+", asked.text + reminded.text + told.text))
    shapes = {(a.status_code, *sorted(a.headers), a.json()["status"], *sorted(a.json())) for a in (first, again, third)}
    assert len(shapes) == 1
    assert len({asked.message["Message-ID"], reminded.message["Message-ID"], told.message["Message-ID"]}) == 3
    assert await exact_counts(database) == {"end-the-ban": 1}


@pytest.fixture
async def behind_a_proxy(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests come through a proxy that is believed."""
    trusting = settings.model_copy(update={"trusted_proxies": ["127.0.0.0/8"]})
    async with serving(trusting) as (_, _, client):
        yield client


async def sign_from(client: httpx.AsyncClient, address: str, body: Json = AMINA, slug: str = "end-the-ban") -> Json:
    headers = {"X-Forwarded-For": address}
    answer = await client.post(f"/v1/petitions/{slug}/signatures", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    told: Json = answer.json()
    return told


STRANGERS, HERS = "192.0.2.1", "198.51.100.1"


async def test_no_client_uses_up_anothers_mails_whatever_it_signs_and_withdraws(
    behind_a_proxy: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database
) -> None:
    """One client causes its first mail and ten more an hour; there is one for whoever is new."""
    client = behind_a_proxy
    for number in range(13):
        told = await sign_from(client, STRANGERS)
        if number < 11:
            await mailbox.arrived(number + 1)
            await settled(database)
        if number % 2:
            await withdraw(client, told["receipt"])
    # A mail to somebody else that was asked for later is the sign that no further one is on its way.
    await sign_from(client, STRANGERS, person(2))
    await mailbox.arrived(12)
    assert mailbox.counts() == {"amina@example.org": 11, "person.2@example.org": 1}
    await sign_from(client, HERS)
    mail = (await mailbox.arrived(13))[12]
    assert mail.recipient == "amina@example.org"
    assert (await confirm(client, token_of(mail.links[0]))).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_each_press_of_the_first_receipt_has_the_mailbox_asked_within_the_limits_of_an_hour(
    client: httpx.AsyncClient, petition_id: UUID, settings: Settings, database: Database
) -> None:
    told = await sign(client)
    await prove(client, petition_id, AMINA, told)
    source = SignatureMails(database, settings, TEMPLATES, None)
    kinds = []
    for _ in range(7):
        await withdraw(client, told["receipt"])
        letters = (await source.claim(10)).mails
        await source.settle([Result(letter, Outcome.SENT) for letter in letters])
        kinds += [letter.kind for letter in letters]
    assert kinds == ["confirm_withdrawal"] * 7
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_the_first_receipt_of_what_was_proven_has_the_mailbox_asked_also_when_another_stands_by_now(
    client: httpx.AsyncClient, petition_id: UUID, settings: Settings, database: Database
) -> None:
    first, second = [await sign(client) for _ in range(2)]
    for told in (first, second):
        await prove(client, petition_id, AMINA, told)
    await withdraw(client, first["receipt"])
    assert await exact_counts(database) == {"end-the-ban": 1}
    (letter,) = (await SignatureMails(database, settings, TEMPLATES, None).claim(10)).mails
    assert (letter.kind, own_id(letter.id)) == ("confirm_withdrawal", first["id"])
    assert letter.mail is not None
    await withdraw(client, token_in(letter.mail))
    assert await exact_counts(database) == {"end-the-ban": 0}


@pytest.mark.parametrize("kind", ["confirm_signature", "confirm_consents", "confirm_withdrawal"])
async def test_no_mail_says_what_a_stranger_has_typed(
    client: httpx.AsyncClient, settings: Settings, database: Database, kind: str
) -> None:
    """But the names of organizations, and the words of their own texts."""
    confirmation = "none" if kind == "confirm_consents" else "email"
    petition_id = await insert_petition(database, confirmation=confirmation)
    typed = ["Pay Or Be Arrested", "Or Else", "Call 555", "Nowhere", "99 555"]
    fields = ("given_name", "family_name", "comment", "region", "postal_code")
    body = AMINA | {"consents": AGREED} | dict(zip(fields, typed, strict=True))
    told = await sign(client, body)
    if kind == "confirm_withdrawal":
        await prove(client, petition_id, AMINA, told)
        await withdraw(client, told["receipt"])
    (letter,) = (await SignatureMails(database, settings, TEMPLATES, None).claim(10)).mails
    assert letter.kind == kind
    assert letter.mail is not None
    said = f"{letter.mail.subject}\n{letter.mail.text}\n{letter.mail.html}"
    assert not [one for one in typed if one in said]
    assert "End the ban" in said


async def test_an_address_gets_only_so_many_mails_an_hour_from_a_client_and_the_rest_later(
    behind_a_proxy: httpx.AsyncClient, petition_id: UUID, settings: Settings, mailbox: SmtpServer, database: Database
) -> None:
    client = behind_a_proxy
    for number in range(6):
        await insert_petition(database, f"petition-{number}", confirmation="email")
        await sign_from(client, STRANGERS, slug=f"petition-{number}")
    async with running_worker(settings, smtp_url=SecretStr(mailbox.url), mails_per_hour=3):
        await mailbox.arrived(4)
        await sign_from(client, STRANGERS, person(2))
        await mailbox.arrived(5)
        assert mailbox.counts() == {"amina@example.org": 4, "person.2@example.org": 1}
        # Others have a first one each, three in all.
        for number in range(2, 7):
            await insert_petition(database, f"further-{number}", confirmation="email")
            await sign_from(client, f"192.0.2.{number}", slug=f"further-{number}")
        await mailbox.arrived(7)
        await sign_from(client, STRANGERS, person(3))
        await mailbox.arrived(8)
    assert mailbox.counts()["amina@example.org"] == 6
    waiting = (
        "SELECT mail_count, mail_due_at > now() + interval '50 minutes' FROM signatures WHERE due_mail IS NOT NULL"
    )
    assert [tuple(row) for row in await run(database, waiting)] == [(0, True)] * 5
    await run(database, "UPDATE signatures SET mail_due_at = now(), mail_since = now() WHERE due_mail IS NOT NULL")
    async with running_worker(settings, smtp_url=SecretStr(mailbox.url), mails_per_hour=30):
        await mailbox.arrived(13)
    assert mailbox.counts()["amina@example.org"] == 11


async def test_a_long_outage_of_the_mail_server_costs_nobody_their_mail(
    client: httpx.AsyncClient, petition_id: UUID, settings: Settings, database: Database
) -> None:
    """Tried many times more often than an address may be written to in an hour."""
    await sign(client)
    source = SignatureMails(database, settings, TEMPLATES, open_limiter(settings))
    ids = set()
    for end in [Outcome.LATER] * 25 + [Outcome.UNKNOWN, Outcome.LATER, Outcome.SENT]:
        (letter,) = (await source.claim(10)).mails
        assert letter.mail is not None
        ids.add(letter.mail.message_id)
        await source.settle([Result(letter, end)])
        await run(database, "UPDATE signatures SET mail_due_at = now() - interval '1 s' WHERE due_mail IS NOT NULL")
    assert (await source.claim(10)).mails == []
    assert len(ids) == 1, "a mailbox can tell that they are one"
    assert (await run(database, "SELECT mail_count FROM signatures"))[0][0] == 2


async def test_a_mail_about_an_old_signature_is_tried_again_as_well(
    client: httpx.AsyncClient, petition_id: UUID, settings: Settings, database: Database
) -> None:
    await sign(client)
    await run(database, "UPDATE signatures SET signed_at = now() - interval '40 days'")
    source = SignatureMails(database, settings, TEMPLATES, open_limiter(settings))
    (letter,) = (await source.claim(10)).mails
    await source.settle([Result(letter, Outcome.LATER)])
    rows = await run(database, "SELECT mail_due_at < now() + interval '2 minutes' FROM signatures")
    assert rows[0][0] is True
    await run(database, "UPDATE signatures SET mail_due_at = now(), mail_since = now() - interval '31 days'")
    (letter,) = (await source.claim(10)).mails
    await source.settle([Result(letter, Outcome.LATER)])
    assert (await run(database, "SELECT due_mail FROM signatures"))[0][0] is None


MALLORY = AMINA | {"given_name": "Mallory", "comment": "Not hers", "country": "FR"}
AGREED = [{"organization": "movement", "given": True}]
LEDGER = "SELECT given, proven FROM consents"


async def test_a_link_proves_its_own_attempt_so_nobody_signs_in_anothers_place(
    client: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database
) -> None:
    await sign(client, MALLORY | {"consents": AGREED})
    await mailbox.arrived(1)
    await settled(database)
    await sign(client, AMINA)
    mail = (await mailbox.arrived(2))[1]
    assert "Mallory" not in mail.text
    await confirm(client, token_of(mail.links[0]))
    (row,) = await run(database, "SELECT signer, sealed, country FROM signatures")
    told = unseal(worker.key_ring, petition_id, row.signer, row.sealed)
    assert (told.given_name, told.comment, row.country) == ("Amina", "", "UG")
    async with database.transaction() as session:
        await ConsentRecorder(worker.key_ring)(session)
    assert await run(database, LEDGER) == []
    assert await exact_counts(database) == {"end-the-ban": 1}
    # Whoever presses her own first link proves what she was shown then, whatever a stranger said later.
    (waiting,) = await run(database, "SELECT signer, sealed, state, proven FROM signature_attempts")
    assert unseal(worker.key_ring, petition_id, waiting.signer, waiting.sealed).given_name == "Mallory"
    assert (waiting.state, waiting.proven) == ("pending", None)


async def test_a_link_proves_nothing_that_came_after_it_and_receipts_of_signings_withdraw_nothing_that_is_proven(
    client: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database
) -> None:
    receipt = (await sign(client, AMINA))["receipt"]
    mine = (await mailbox.arrived(1))[0]
    await settled(database)
    strangers = (await sign(client, MALLORY | {"consents": AGREED}))["receipt"]
    await mailbox.arrived(2)
    proven = (await confirm(client, token_of(mine.links[0]), 0)).json()["receipt"]
    assert await exact_counts(database) == {"end-the-ban": 1}
    await withdraw(client, strangers)
    assert await exact_counts(database) == {"end-the-ban": 1}, "the stranger's receipt opens the stranger's attempt"
    async with database.transaction() as session:
        await ConsentRecorder(worker.key_ring)(session)
    assert await run(database, LEDGER) == [], "the box that was ticked was not on her page"
    await withdraw(client, receipt)
    assert await exact_counts(database) == {"end-the-ban": 1}, (
        "whoever typed the address holds it: the mailbox is asked"
    )
    asked = (await mailbox.arrived(3))[2]
    assert asked.recipient == "amina@example.org"
    assert "/withdraw?" in asked.links[0]
    await withdraw(client, proven)
    assert await exact_counts(database) == {"end-the-ban": 0}, "the confirmation's receipt does"


@pytest.mark.parametrize("way", ["our own page", "the token"])
async def test_the_mailed_link_withdraws_what_was_proven(
    client: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database, way: str
) -> None:
    receipt = (await sign(client, AMINA))["receipt"]
    await confirm(client, token_of((await mailbox.arrived(1))[0].links[0]))
    await settled(database)
    await withdraw(client, receipt)
    url = urlsplit((await mailbox.arrived(2))[1].links[0])
    assert await exact_counts(database) == {"end-the-ban": 1}
    for method in ("GET", "HEAD", "GET"):
        await client.request(method, f"{url.path}?{url.query}")
    assert await exact_counts(database) == {"end-the-ban": 1}, "whoever opens links changes nothing"
    page = await client.get(f"{url.path}?{url.query}")
    (token,) = re.findall(r'name="token" value="([^"]+)"', page.text)
    if way == "the token":
        await withdraw(client, token)
    else:
        for _ in range(2):
            assert (await client.post("/withdraw", data={"token": token})).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_consents_count_from_the_confirmation_on_and_are_proven_by_it(
    client: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database
) -> None:
    await sign(client, AMINA | {"consents": AGREED})
    mine = (await mailbox.arrived(1))[0]
    assert await run(database, LEDGER) == []
    await confirm(client, token_of(mine.links[0]), 0)
    await wait_until(database, "SELECT count(*) = 1 FROM consents")
    assert [tuple(row) for row in await run(database, LEDGER)] == [(True, True)]


@pytest.mark.parametrize("again", [(), (0,)])
async def test_a_confirmation_that_names_no_consent_accepts_none_now_and_later(
    client: httpx.AsyncClient, petition_id: UUID, database: Database, settings: Settings, again: tuple[int, ...]
) -> None:
    told = await sign(client, AMINA | {"consents": AGREED})
    token = link_of(petition_id, AMINA, told)
    assert (await confirm(client, token)).status_code == 200
    assert (await confirm(client, token, *again)).status_code == 200
    async with database.transaction() as session:
        await ConsentRecorder(settings.key_ring)(session)
    assert await run(database, LEDGER) == []
    assert await run(database, "SELECT consents_due FROM signatures") == [(None,)]
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_a_mail_server_in_trouble_costs_nobody_their_mail(
    client: httpx.AsyncClient, petition_id: UUID, worker: Settings, mailbox: SmtpServer, database: Database
) -> None:
    mailbox.answer("person.0@example.org", "451 later", times=1)
    mailbox.answer("person.1@example.org", "550 nobody here")
    mailbox.answer("person.2@example.org", "drop", times=1, at_data=True)
    await asyncio.gather(*(sign(client, body) for body in people_like(4)))
    await mailbox.arrived(1)
    # Those to be tried again are due in a minute; what is being sent is leased for twenty. The clock is put forward
    # only when nothing is being sent.
    again = "mail_due_at BETWEEN now() + interval '10 seconds' AND now() + interval '10 minutes'"
    await wait_until(
        database,
        f"SELECT count(*) = 2 AND count(*) FILTER (WHERE {again}) = 2 FROM signatures WHERE due_mail IS NOT NULL",
    )
    await run(database, "UPDATE signatures SET mail_due_at = now() WHERE due_mail IS NOT NULL")
    await mailbox.arrived(3)
    assert set(mailbox.counts()) == {"person.0@example.org", "person.2@example.org", "person.3@example.org"}
    await settled(database)
    rows = await run(database, "SELECT mail_count FROM signatures ORDER BY mail_count")
    assert [row[0] for row in rows] == [1, 1, 1, 2]


async def test_a_confirmation_counts_after_closing_but_not_in_the_archive(
    client: httpx.AsyncClient, petition_id: UUID, database: Database, settings: Settings
) -> None:
    await sign(client)
    await sign(client, person(2))
    rows = await run(database, "SELECT signer, id FROM signatures")
    tokens = [write_link(settings.key_ring, petition_id, row.signer, row.id, now()) for row in rows]
    await run(database, "UPDATE petitions SET state = 'closed', closes_at = now() + interval '1 second'")
    assert (await confirm(client, tokens[0])).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 1}
    await run(database, "UPDATE petitions SET state = 'archived'")
    assert_gone(await confirm(client, tokens[1]))
    assert (await confirm(client, tokens[0])).status_code == 200, "what was confirmed before still is"
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_a_pending_signature_can_be_withdrawn_and_its_link_then_confirms_nothing(
    client: httpx.AsyncClient, petition_id: UUID, database: Database, settings: Settings
) -> None:
    told = await sign(client)
    (row,) = await run(database, "SELECT signer, id FROM signatures")
    token = write_link(settings.key_ring, petition_id, row.signer, row.id, now())
    await withdraw(client, told["receipt"])
    assert_gone(await confirm(client, token))
    (row,) = await run(database, "SELECT state, octet_length(sealed) FROM signatures")
    assert tuple(row) == ("withdrawn", 0)
    async with database.snapshot() as session:
        assert await exact_count(session, petition_id) == 0
