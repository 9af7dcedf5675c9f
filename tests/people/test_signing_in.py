"""Signing in by a mailed link: once, in time, in a browser that asked for it."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest

from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.kit.mail.outcome import Outcome
from app.kit.mail.sender import LEASE_SECONDS
from app.people.account.sessions import forget_sign_ins
from app.people.account.sign_ins import LIFETIME
from app.people.sealing import Binding, Device, SignInToken, write_binding, write_device_token, write_sign_in_token
from app.settings import Settings
from tests.support.application import serving
from tests.support.databases import run
from tests.support.people_mails import AMINA, Asked, Postman, link_in, token_in
from tests.support.time_travel import age
from tests.support.types import Headers

Ask = Callable[..., Awaitable[Asked]]
Sign = Callable[..., Awaitable[object]]
SignIn = Callable[..., Awaitable[Headers]]

LONG_AGO = "01800000-0000-7000-8000-000000000000"


async def test_the_link_in_the_mail_signs_in(client: httpx.AsyncClient, sign: Sign, ask: Ask) -> None:
    await sign()
    asked = await ask()
    answer = await client.post("/v1/sessions", json={"token": asked.token, "binding": asked.binding})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    begun = answer.json()
    assert re.fullmatch(r"mtd_person_[A-Za-z0-9_-]{43}", begun["key"])
    me = await client.get("/v1/me", headers={"Authorization": f"Bearer {begun['key']}"})
    assert me.status_code == 200
    assert me.json()["email"] == AMINA


async def test_a_browser_is_known_by_its_cookie(client: httpx.AsyncClient, sign: Sign, postman: Postman) -> None:
    await sign()
    answer = await client.post("/v1/sign-ins", json={"email": AMINA})
    cookie = answer.headers["set-cookie"]
    assert f"mtd_binding={answer.json()['binding']};" in cookie
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=900"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    (mail,) = await postman.bring()
    assert (await client.post("/v1/sessions", json={"token": token_in(mail)})).status_code == 201


async def test_the_cookie_is_secure_where_the_service_is(database: Database, settings: Settings) -> None:
    settings = settings.model_copy(update={"public_url": "https://multitude.example"})
    async with serving(settings) as (_, _, client):
        answer = await client.post("/v1/sign-ins", json={"email": AMINA})
    assert "; Secure" in answer.headers["set-cookie"]


async def test_the_mail_is_in_the_readers_language(client: httpx.AsyncClient, postman: Postman) -> None:
    await client.post("/v1/sign-ins", json={"email": AMINA, "locale": "fr"})
    await client.post("/v1/sign-ins", json={"email": "b@example.org"}, headers={"Accept-Language": "ar, en;q=0.5"})
    assert {mail.locale for mail in await postman.bring()} == {"fr", "ar"}


async def test_the_link_leads_to_the_front_end_that_is_set(
    client: httpx.AsyncClient, sign: Sign, postman: Postman, settings: Settings
) -> None:
    await sign()
    await client.post("/v1/sign-ins", json={"email": AMINA})
    postman.source._settings = settings.model_copy(update={"sign_in_link": "https://front.example/in#{token}"})
    (mail,) = await postman.bring()
    assert link_in(mail).startswith("https://front.example/in#")


async def refusals(client: httpx.AsyncClient, attempts: dict[str, tuple[str, str | None]]) -> dict[str, object]:
    """How each attempt is answered, without what differs in every answer."""
    told = {}
    for name, (token, binding) in attempts.items():
        answer = await client.post("/v1/sessions", json={"token": token, "binding": binding})
        body = answer.json()
        del body["request_id"]
        headers = {n: v for n, v in answer.headers.items() if n != "x-request-id"}
        told[name] = (answer.status_code, body, headers)
    return told


async def test_all_links_that_do_not_work_are_refused_alike(
    client: httpx.AsyncClient, ask: Ask, database: Database, settings: Settings
) -> None:
    used = await ask()
    assert (await client.post("/v1/sessions", json={"token": used.token, "binding": used.binding})).status_code == 201
    old = await ask()
    await run(
        database,
        "UPDATE sign_ins SET asked_at = asked_at - interval '30 minutes', mailed_at = mailed_at - interval '30 minutes'"
        " WHERE used_at IS NULL",
    )
    good, other = await ask(), await ask("bilal@example.org")
    signer = settings.key_ring.digest(AMINA)
    stale = write_binding(settings.key_ring, Binding(signer, now() - LIFETIME, AMINA, ""))
    stranger = KeyRing.parse("another-secret-of-somebody-else-0002")
    unknown = SignInToken(uuid7(), AMINA, "")
    attempts = {
        "used": (used.token, used.binding),
        "too old": (old.token, good.binding),
        "asked too long ago": (good.token, stale),
        "asked for somebody else": (good.token, other.binding),
        "a device's token": (good.token, write_device_token(settings.key_ring, Device(signer, now()))),
        "no browser": (good.token, None),
        "forged": (write_sign_in_token(stranger, unknown), good.binding),
        "of nothing": (write_sign_in_token(settings.key_ring, unknown), good.binding),
        "cut short": (good.token[:-5], good.binding),
        # Not its last sign, of which not every bit says something.
        "changed": (good.token[:-5] + ("A" if good.token[-5] != "A" else "B") + good.token[-4:], good.binding),
        "no token": ("%%%", good.binding),
        "not ASCII": ("é" * 40, "é"),
    }
    told = await refusals(client, attempts)
    assert next(iter(told.values()))[0] == 403  # type: ignore[index]
    assert all(answer == told["used"] for answer in told.values()), told
    # Neither a wrong browser nor a scanner has used it up.
    assert (await client.post("/v1/sessions", json={"token": good.token, "binding": good.binding})).status_code == 201


async def test_a_link_is_used_once_even_when_it_is_pressed_twice_at_once(
    client: httpx.AsyncClient, sign: Sign, ask: Ask
) -> None:
    await sign()
    asked = await ask()
    body = {"token": asked.token, "binding": asked.binding}
    answers = [client.post("/v1/sessions", json=body) for _ in range(5)]
    statuses = sorted(answer.status_code for answer in await asyncio.gather(*answers))
    assert statuses == [201, 403, 403, 403, 403]


async def test_an_expired_link_is_not_even_mailed(
    client: httpx.AsyncClient, sign: Sign, postman: Postman, database: Database
) -> None:
    await sign()
    await client.post("/v1/sign-ins", json={"email": AMINA})
    await age(database, "sign_ins", "expires_at", "15 minutes")
    assert await postman.bring() == []
    assert await run(database, "SELECT 1 FROM mails") == []


@pytest.mark.parametrize("most", [30, 3])
async def test_one_client_cannot_ask_without_end(settings: Settings, database: Database, most: int) -> None:
    if most != settings.sign_ins_per_hour:
        settings = settings.model_copy(update={"sign_ins_per_hour": most})
    async with serving(settings) as (_, _, client):
        answers = [await client.post("/v1/sign-ins", json={"email": f"p{n}@example.org"}) for n in range(most + 1)]
        assert [answer.status_code for answer in answers] == [202] * most + [429]
        assert "retry-after" in answers[-1].headers
        page = await client.post("/sign-in", data={"email": AMINA})
    assert page.status_code == 429
    assert page.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("end", [Outcome.LATER, Outcome.UNKNOWN])
async def test_a_mail_that_was_not_taken_is_due_again(
    client: httpx.AsyncClient, sign: Sign, postman: Postman, database: Database, end: Outcome
) -> None:
    await sign()
    await client.post("/v1/sign-ins", json={"email": AMINA})
    (first,) = await postman.bring(end)
    assert await postman.bring() == []
    await age(database, "mails", "due_at", "1 minute")
    (second,) = await postman.bring()
    assert first.message_id == second.message_id
    assert await run(database, "SELECT 1 FROM mails") == []


async def test_nothing_is_sent_more_than_five_times(
    client: httpx.AsyncClient, sign: Sign, postman: Postman, database: Database
) -> None:
    await sign()
    await client.post("/v1/sign-ins", json={"email": AMINA})
    for _ in range(8):
        await postman.bring(Outcome.UNKNOWN)
        await age(database, "mails", "due_at", "1 minute")
    assert len(postman.brought) == 5
    assert await run(database, "SELECT 1 FROM mails") == []


async def test_a_worker_that_dies_with_a_claim_leaves_it_to_the_next(
    client: httpx.AsyncClient, sign: Sign, postman: Postman, database: Database
) -> None:
    await sign()
    await client.post("/v1/sign-ins", json={"email": AMINA})
    assert len((await postman.source.claim(10)).mails) == 1
    assert (await postman.source.claim(10)).mails == []
    await age(database, "mails", "due_at", f"{LEASE_SECONDS} seconds")
    assert len(await postman.bring()) == 1


async def test_nothing_a_dump_shows_signs_in_or_names_anybody(
    client: httpx.AsyncClient, sign: Sign, postman: Postman, stored: Callable[[], Awaitable[list[object]]]
) -> None:
    await sign()
    binding = (await client.post("/v1/sign-ins", json={"email": AMINA})).json()["binding"]
    before = repr(await stored())
    (mail,) = await postman.bring()
    key = (await client.post("/v1/sessions", json={"token": token_in(mail), "binding": binding})).json()["key"]
    dumped = before + repr(await stored())
    assert not [secret for secret in (AMINA, "amina", binding, key, token_in(mail)) if secret in dumped]


async def test_opening_a_link_changes_nothing_and_pressing_the_button_signs_in(
    client: httpx.AsyncClient, sign: Sign, postman: Postman, stored: Callable[[], Awaitable[list[object]]]
) -> None:
    await sign()
    asked = await client.post("/sign-in", data={"email": AMINA})
    assert asked.status_code == 200
    (mail,) = await postman.bring()
    before = await stored()
    opened = [await client.get(link_in(mail)) for _ in range(3)]
    assert {page.status_code for page in opened} == {200}
    assert token_in(mail) in opened[0].text
    assert await stored() == before
    pressed = await client.post("/sign-in", data={"token": token_in(mail)})
    assert pressed.status_code == 200
    assert pressed.headers["cache-control"] == "no-store"
    found = re.search(r"mtd_person_[A-Za-z0-9_-]{43}", pressed.text)
    assert found
    assert (await client.get("/v1/me", headers={"Authorization": f"Bearer {found[0]}"})).status_code == 200
    again = await client.post("/sign-in", data={"token": token_in(mail)})
    assert again.status_code == 403
    assert "mtd_person_" not in again.text


@pytest.mark.parametrize(
    ("languages", "locale", "direction", "word"),
    [
        ("fr-CA", "fr", "ltr", "Se connecter"),
        ("es", "es", "ltr", "Iniciar sesión"),
        ("de-AT, en;q=0.1", "de", "ltr", "Anmelden"),
        ("ar-EG", "ar", "rtl", "تسجيل الدخول"),
        ("sw", "en", "ltr", "Sign in"),
    ],
)
async def test_pages_speak_the_readers_language_and_fetch_nothing(
    client: httpx.AsyncClient, languages: str, locale: str, direction: str, word: str
) -> None:
    page = await client.get("/sign-in?token=abc", headers={"Accept-Language": languages})
    assert f'<html lang="{locale}" dir="{direction}">' in page.text
    assert word in page.text
    assert page.headers["content-language"] == locale
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "<script" not in page.text
    assert "http" not in page.text


@pytest.mark.parametrize("path", ["/sign-in", "/confirm", "/withdraw"])
async def test_a_page_of_another_site_cannot_press_our_buttons(
    client: httpx.AsyncClient, path: str, stored: Callable[[], Awaitable[list[object]]]
) -> None:
    for site, refused in [("cross-site", True), ("same-origin", False), ("none", False), ("", False)]:
        answer = await client.post(path, data={"email": AMINA}, headers={"Sec-Fetch-Site": site} if site else {})
        assert answer.headers["content-type"].startswith("application/problem+json" if refused else "text/html")
        if refused:
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:multitude:problem:from-elsewhere")
            assert await stored() == []
        opened = await client.get(path, headers={"Sec-Fetch-Site": site})
        # What a link would confirm is shown, so without one there is nothing to show.
        assert opened.status_code == (404 if path == "/confirm" else 200)
        assert opened.headers["content-type"].startswith("text/html")


async def test_what_is_put_into_a_page_is_escaped(client: httpx.AsyncClient) -> None:
    page = await client.get("/sign-in", params={"token": '"><script>alert(1)</script>{words}{0}'})
    assert page.status_code == 200
    assert "<script" not in page.text


@pytest.mark.parametrize("data", [{}, {"email": "nobody"}, {"token": "x"}, {"email": ""}, {"x": "y"}])
async def test_forms_filled_in_wrongly_are_answered_with_a_page(client: httpx.AsyncClient, data: Headers) -> None:
    answer = await client.post("/sign-in", data=data)
    assert answer.status_code in {403, 422}
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "body",
    [{}, {"email": "nobody"}, {"email": AMINA, "locale": "<b>"}, {"email": AMINA, "x": 1}, {"email": 7}, []],
)
async def test_a_malformed_wish_changes_nothing(
    client: httpx.AsyncClient, body: object, stored: Callable[[], Awaitable[list[object]]]
) -> None:
    answer = await client.post("/v1/sign-ins", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "set-cookie" not in answer.headers
    assert await stored() == []


async def test_sessions_are_listed_and_ended(
    client: httpx.AsyncClient, amina: Headers, sign_in: SignIn, sign: Sign
) -> None:
    phone = await sign_in()
    await sign("bilal@example.org")
    bilal = await sign_in("bilal@example.org")
    listed = (await client.get("/v1/me/sessions", headers=phone)).json()["items"]
    assert [one["current"] for one in listed] == [True, False]
    url = f"/v1/me/sessions/{listed[1]['id']}"
    assert (await client.delete(url, headers=bilal)).status_code == 404
    assert (await client.get("/v1/me", headers=amina)).status_code == 200
    assert (await client.delete(url, headers=phone)).status_code == 204
    assert (await client.get("/v1/me", headers=amina)).status_code == 401
    assert (await client.delete(url, headers=phone)).status_code == 204
    assert (await client.delete("/v1/me/sessions/this", headers=phone)).status_code == 404
    assert len((await client.get("/v1/me/sessions", headers=phone)).json()["items"]) == 1


async def test_a_session_ends_after_thirty_days(client: httpx.AsyncClient, amina: Headers, database: Database) -> None:
    await age(database, "person_sessions", "expires_at", "29 days 23 hours")
    assert (await client.get("/v1/me", headers=amina)).status_code == 200
    await age(database, "person_sessions", "expires_at", "1 hour")
    assert (await client.get("/v1/me", headers=amina)).status_code == 401


async def test_use_is_noted_to_the_minute(client: httpx.AsyncClient, amina: Headers, database: Database) -> None:
    noted = "SELECT last_used_at FROM person_sessions"
    first = await run(database, noted)
    await client.get("/v1/me", headers=amina)
    assert await run(database, noted) == first
    await age(database, "person_sessions", "last_used_at", "61 seconds")
    aged = await run(database, noted)
    await client.get("/v1/me", headers=amina)
    assert await run(database, noted) > aged


async def test_old_sign_ins_and_sessions_are_forgotten(
    client: httpx.AsyncClient, amina: Headers, database: Database
) -> None:
    async with database.transaction() as session:
        assert await forget_sign_ins(session) == []
    await client.post("/v1/sign-ins", json={"email": AMINA})
    await run(database, "DELETE FROM sign_ins WHERE used_at IS NULL")
    await run(database, f"UPDATE mails SET id = '{LONG_AGO}'")
    await run(database, f"UPDATE sign_ins SET id = '{LONG_AGO}'")
    await run(database, f"UPDATE person_sessions SET id = '{LONG_AGO}', expires_at = now()")
    async with database.transaction() as session:
        assert len(await forget_sign_ins(session)) == 3
    left = "SELECT id FROM sign_ins UNION SELECT id FROM person_sessions UNION SELECT id FROM mails"
    assert await run(database, left) == []
