"""Asking for links: it tells nobody who is known, and no stranger uses up what somebody needs to get to their page."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import event

from app.kit.abuse.rate_limits import Limiter, MemoryStorage
from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.mail.message import Mail
from app.kit.mail.outcome import Outcome
from app.people.account.devices import LIFETIME as DEVICE_LIFETIME
from app.people.account.service import remember
from app.people.mailing import PeopleMails
from app.people.sealing import Device, write_device_token
from app.settings import Settings
from tests.support.application import serving
from tests.support.databases import run
from tests.support.people_mails import AMINA, TEMPLATES, Postman, token_in
from tests.support.time_travel import age
from tests.support.types import Headers, Json

Ask = Callable[..., Awaitable[Json]]
Sign = Callable[..., Awaitable[Json]]
SignIn = Callable[..., Awaitable[Headers]]

# As long as Amina's address, and nobody's.
NADIA = "nadia@example.org"


@pytest.fixture
async def anywhere(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client that says itself where it is."""
    async with serving(settings.model_copy(update={"trusted_proxies": ["127.0.0.1/32"]})) as (_, _, client):
        yield client


@pytest.fixture
def ask_from(anywhere: httpx.AsyncClient) -> Ask:
    """Ask for Amina's link, from an address and in a browser of its own."""

    async def ask_from(address: str, **more: object) -> Json:
        body = {"email": AMINA, **more}
        answer = await anywhere.post("/v1/sign-ins", json=body, headers={"X-Forwarded-For": address})
        anywhere.cookies.clear()
        assert answer.status_code == 202, answer.text
        asked: Json = answer.json()
        return asked

    return ask_from


async def sign_in_with(client: httpx.AsyncClient, mail: Mail, asked: Json) -> httpx.Response:
    answer = await client.post("/v1/sessions", json={"token": token_in(mail), "binding": asked["binding"]})
    client.cookies.clear()
    return answer


async def test_everybody_who_is_asked_for_gets_the_same_mail_after_the_same_work(
    client: httpx.AsyncClient, amina: Headers, postman: Postman, database: Database
) -> None:
    """Fails where only the known get mail. She has signed, and even chosen another language."""
    await client.patch("/v1/me", json={"given_name": "Amina", "locale": "fr"}, headers=amina)
    answers, mails, statements = [], [], []
    for email in (AMINA, NADIA):
        answers.append(await client.post("/v1/sign-ins", json={"email": email, "locale": "en"}))
        client.cookies.clear()
        written = await run(database, "SELECT kind, due_at IS NULL, mail_count FROM mails")
        assert written == [("sign_in", False, 0)]
        asked: list[str] = []

        def note(*told: object, asked: list[str] = asked) -> None:
            asked.append(str(told[2]))

        event.listen(database.engine.sync_engine, "before_cursor_execute", note)
        mails += await postman.bring()
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)
        statements.append(asked)
    assert [mail.recipient for mail in mails] == [AMINA, NADIA]
    assert seen(answers[0]) == seen(answers[1])
    assert words(mails[0]) == words(mails[1])
    assert statements[0] == statements[1]
    assert await run(database, "SELECT 1 FROM mails") == []


def seen(answer: httpx.Response) -> tuple[object, ...]:
    """What an answer shows, without what differs in every one."""
    headers = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "set-cookie"}}
    return answer.status_code, answer.json().keys(), len(answer.content), headers, len(answer.headers["set-cookie"])


def words(mail: Mail) -> tuple[object, ...]:
    """What a mail server sees of a mail, without its recipient and what is random."""
    texts = [re.sub(r"token=[A-Za-z0-9_-]+", "token=", part) for part in (mail.subject, mail.text, mail.html)]
    return *texts, len(mail.text), len(mail.html), mail.locale, len(mail.message_id), mail.unsubscribe_url


async def test_a_link_goes_to_the_mailbox_as_it_was_typed_without_what_its_provider_ignores(
    client: httpx.AsyncClient, sign: Sign, postman: Postman, database: Database, settings: Settings
) -> None:
    """To the address that was kept it would tell that there is one; a tag could tell her something in our name."""
    await sign("amina.okello@gmail.com")
    ring = settings.key_ring
    async with database.transaction() as session:
        await remember(session, ring, ring.digest("aminaokello@gmail.com"), email="amina.okello@gmail.com")
    await client.post("/v1/sign-ins", json={"email": "Amina.Okello+you-are-found-out@GoogleMail.com"})
    assert [mail.recipient for mail in await postman.bring()] == ["aminaokello@GoogleMail.com"]


async def test_what_a_stranger_typed_does_not_stand_for_the_person(client: httpx.AsyncClient, postman: Postman) -> None:
    """Fails where a session takes address and language from the link, whoever had it mailed."""
    strange = {"email": "amina.okello+found-out@googlemail.com", "locale": "fr"}
    await client.post("/v1/sign-ins", json=strange)
    (mail,) = await postman.bring()
    hers = await client.post("/v1/sign-ins", json={"email": "amina.okello@gmail.com", "locale": "sw"})
    assert await postman.bring() == []
    begun = (await sign_in_with(client, mail, hers.json())).json()
    me = await client.get("/v1/me", headers={"Authorization": f"Bearer {begun['key']}"})
    assert (me.json()["email"], me.json()["locale"]) == ("amina.okello@gmail.com", "sw")


async def test_while_a_link_is_good_and_unused_no_other_is_mailed(
    ask_from: Ask, anywhere: httpx.AsyncClient, postman: Postman, database: Database
) -> None:
    asked = [await ask_from("192.0.2.1") for _ in range(3)]
    (mail,) = await postman.bring()
    asked.append(await ask_from("192.0.2.1"))
    assert await postman.bring() == []
    assert await run(database, "SELECT 1 FROM mails") == []
    assert (await sign_in_with(anywhere, mail, asked[-1])).status_code == 201
    assert (await sign_in_with(anywhere, mail, asked[0])).status_code == 403, "used up"
    await ask_from("192.0.2.1")
    assert len(await postman.bring()) == 1, "the one before was used up"


async def test_a_lost_link_is_mailed_anew_when_it_has_expired(
    ask_from: Ask, anywhere: httpx.AsyncClient, postman: Postman, database: Database
) -> None:
    await ask_from("192.0.2.1")
    (lost,) = await postman.bring()
    await age(database, "sign_ins", "mailed_at", "14 minutes 50 seconds")
    asked = await ask_from("192.0.2.1")
    assert await postman.bring() == []
    # Who asks in the last seconds can still use it for all the time the mail speaks of.
    await age(database, "sign_ins", "mailed_at", "14 minutes")
    assert (await sign_in_with(anywhere, lost, asked)).status_code == 201
    for _ in range(2):
        await ask_from("192.0.2.1")
        assert len(await postman.bring()) == 1
        await age(database, "sign_ins", "mailed_at", "15 minutes")


async def test_six_clients_do_not_keep_anybody_from_signing_in(
    ask_from: Ask, anywhere: httpx.AsyncClient, sign: Sign, postman: Postman
) -> None:
    """Fails where every browser needs a mail of its own: they used up all 30 of them, for an hour."""
    receipt = (await sign())["receipt"]
    for client in range(1, 7):
        for _ in range(5):
            await ask_from(f"192.0.2.{client}")
    (mail,) = await postman.bring()
    hers = await ask_from("198.51.100.1")
    assert await postman.bring() == [], "nor is her mailbox filled"
    assert (await sign_in_with(anywhere, mail, hers)).status_code == 201
    withdrawn = await anywhere.post("/v1/petitions/end-the-ban/withdrawals", json={"receipt": receipt})
    assert (withdrawn.status_code, withdrawn.json()) == (200, {"status": "withdrawn"})


async def test_whoever_has_used_up_all_limits_withdraws_by_the_receipt_without_signing_in(
    sign: Sign, settings: Settings, database: Database
) -> None:
    receipt = (await sign())["receipt"]
    async with serving(settings.model_copy(update={"sign_ins_per_hour": 1})) as (_, _, client):
        statuses = [(await client.post("/v1/sign-ins", json={"email": AMINA})).status_code for _ in range(3)]
        assert statuses == [202, 429, 429]
        await client.post("/v1/petitions/end-the-ban/withdrawals", json={"receipt": receipt})
    assert await run(database, "SELECT state FROM signatures") == [("withdrawn",)]


async def test_a_device_on_which_somebody_signed_in_before_has_a_mail_of_its_own(
    ask_from: Ask, anywhere: httpx.AsyncClient, postman: Postman, database: Database
) -> None:
    asked = await ask_from("192.0.2.1")
    (mail,) = await postman.bring()
    device = (await sign_in_with(anywhere, mail, asked)).json()["device"]
    for number in range(20):
        await ask_from(f"192.0.2.{number}")
    assert len(await postman.bring()) == 1
    # The strangers' link may have been thrown away by whoever did not ask for it.
    hers = await ask_from("198.51.100.1", device=device)
    (own,) = await postman.bring()
    await ask_from("198.51.100.1", device=device)
    await ask_from("192.0.2.1")
    assert await postman.bring() == [], "one good link is mailed once here, too"
    assert (await sign_in_with(anywhere, own, hers)).status_code == 201
    assert await run(database, "SELECT count(*) FROM sign_ins WHERE known_device") == [(2,)]


async def test_a_known_device_is_not_held_up_by_its_neighbours_and_no_other_token_helps(
    settings: Settings, postman: Postman
) -> None:
    ring, moment = settings.key_ring, now()
    stranger = KeyRing.parse("another-secret-of-somebody-else-0002")
    mine = write_device_token(ring, Device(ring.digest(AMINA), moment))
    others = {
        "somebody else's": write_device_token(ring, Device(ring.digest(NADIA), moment)),
        "too old": write_device_token(
            ring, Device(ring.digest(AMINA), moment - DEVICE_LIFETIME - timedelta(seconds=1))
        ),
        "forged": write_device_token(stranger, Device(ring.digest(AMINA), moment)),
        "no token": "é" * 40,
        "none": None,
    }
    async with serving(settings.model_copy(update={"sign_ins_per_hour": 1})) as (_, _, client):
        await client.post("/v1/sign-ins", json={"email": NADIA})
        for name, device in others.items():
            refused = await client.post("/v1/sign-ins", json={"email": AMINA, "device": device})
            assert refused.status_code == 429, name
        body = {"email": AMINA, "device": mine}
        statuses = [(await client.post("/v1/sign-ins", json=body)).status_code for _ in range(11)]
        assert statuses == [202] * 10 + [429], "it has a limit of its own"
    assert sorted(mail.recipient for mail in await postman.bring()) == [AMINA, NADIA]


async def test_our_pages_know_the_device_by_a_cookie_until_its_owner_is_erased(
    client: httpx.AsyncClient, postman: Postman, database: Database
) -> None:
    await client.post("/sign-in", data={"email": AMINA})
    (mail,) = await postman.bring()
    page = await client.post("/sign-in", data={"token": token_in(mail)})
    (cookie,) = [value for value in page.headers.get_list("set-cookie") if value.startswith("mtd_device=")]
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=15552000"} <= set(cookie.split("; "))
    await client.post("/sign-in", data={"email": AMINA})
    assert await run(database, "SELECT known_device FROM sign_ins ORDER BY id") == [(None,), (True,)]
    found = re.search(r"mtd_person_[A-Za-z0-9_-]{43}", page.text)
    assert found
    headers = {"Authorization": f"Bearer {found[0]}"}
    await client.post("/v1/me/erasure", json={"signatures": "keep"}, headers=headers)
    assert "mtd_device" not in client.cookies


@pytest.mark.parametrize("end", [Outcome.LATER, Outcome.REFUSED])
async def test_the_next_who_asked_has_their_turn_when_a_mail_was_not_taken(
    ask_from: Ask, anywhere: httpx.AsyncClient, postman: Postman, database: Database, end: Outcome
) -> None:
    await ask_from("192.0.2.1")
    await postman.bring(end)
    hers = await ask_from("198.51.100.1")
    if end is Outcome.LATER:
        assert await postman.bring() == [], "the first is tried again"
        await run(
            database,
            "UPDATE sign_ins SET expires_at = now() WHERE id = (SELECT id FROM sign_ins ORDER BY id LIMIT 1)",
        )
        await age(database, "mails", "due_at", "1 minute")
    (mail,) = await postman.bring()
    assert (await sign_in_with(anywhere, mail, hers)).status_code == 201
    assert await run(database, "SELECT 1 FROM mails") == []


async def test_a_mail_of_which_nobody_knows_whether_it_was_sent_goes_again_and_holds_up_nobody(
    ask_from: Ask, postman: Postman, database: Database
) -> None:
    await ask_from("192.0.2.1")
    (first,) = await postman.bring(Outcome.UNKNOWN)
    await ask_from("198.51.100.1")
    await age(database, "mails", "due_at", "1 minute")
    (again,) = await postman.bring()
    assert first.message_id == again.message_id
    assert await run(database, "SELECT 1 FROM mails") == []


async def test_two_workers_mail_one_link(ask_from: Ask, postman: Postman) -> None:
    await ask_from("192.0.2.1")
    await ask_from("192.0.2.2")
    assert len((await postman.source.claim(10)).mails) == 1
    assert (await postman.source.claim(10)).mails == [], "the other waits for what becomes of the first"


async def test_many_workers_at_once_mail_one_link_to_each(
    settings: Settings, database: Database, client: httpx.AsyncClient
) -> None:
    people = [f"person.{number}@example.org" for number in range(8)]
    for email in people * 3:
        assert (await client.post("/v1/sign-ins", json={"email": email})).status_code == 202
    limiter = Limiter(MemoryStorage())
    workers = [Postman(PeopleMails(database, settings, TEMPLATES, limiter)) for _ in range(4)]

    async def work(worker: Postman) -> None:
        while await run(database, "SELECT 1 FROM mails"):
            await worker.bring()

    await asyncio.gather(*map(work, workers))
    assert sorted(mail.recipient for worker in workers for mail in worker.brought) == people


async def test_clients_of_one_network_share_a_limit_too(settings: Settings) -> None:
    """A /48 holds 65,536 of the /64s that stand for one client each."""
    chosen = settings.model_copy(update={"sign_ins_per_hour": 2, "trusted_proxies": ["127.0.0.1/32"]})
    async with serving(chosen) as (_, _, client):
        for prefix in ("2001:db8:1:", "2001:db8:2:"):
            statuses = []
            for number in range(20):
                headers = {"X-Forwarded-For": f"{prefix}{number:x}::1"}
                body = {"email": f"p{number}@example.org"}
                statuses.append((await client.post("/v1/sign-ins", json=body, headers=headers)).status_code)
            assert statuses == [202] * 16 + [429] * 4
