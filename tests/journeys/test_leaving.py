"""Amina signs two petitions, agrees to news, looks at what is kept of her, and leaves. Nothing of her stays.

Everything real: the worker, a mail server, the links in its mails, the command line, a dump of the database.
"""

import base64
from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.kit.database.session import Database
from app.people.fields.emails import canonical
from app.settings import Settings
from tests.support.application import running_worker
from tests.support.databases import run, wait_until
from tests.support.factories import insert_petition, person
from tests.support.mailed_links import prove
from tests.support.postgres import Cluster
from tests.support.smtp import ReceivedMail, SmtpServer
from tests.support.tallies import exact_counts
from tests.support.types import Json

Headers = dict[str, str]

EMAIL = "amina.okello.hidden@example.org"
AMINA = person(
    1,
    email=EMAIL,
    given_name="Aminahidden",
    family_name="Okellohidden",
    postal_code="HIDDEN 7",
    comment="A hidden word",
    locale="sw",
    region="Kampala",
    source="letter",
    consents=[{"organization": "movement", "given": True, "page": "hidden-page"}],
)
PHONE = "+256772123456"
# Long after anything the worker may still have to do.
_DONE = "SELECT count(*) = 0 FROM signatures WHERE mail_due_at IS NOT NULL OR consents_due AND state = 'confirmed'"


@pytest.fixture
def mailbox() -> Iterator[SmtpServer]:
    with SmtpServer() as mailbox:
        yield mailbox


@pytest.fixture
async def worker(settings: Settings, mailbox: SmtpServer) -> AsyncIterator[Settings]:
    async with running_worker(settings, smtp_url=SecretStr(mailbox.url)) as chosen:
        yield chosen


def token_in(mail: ReceivedMail) -> str:
    return parse_qs(urlsplit(mail.links[0]).query)["token"][0]


async def sign_in(client: httpx.AsyncClient, mailbox: SmtpServer) -> Headers:
    before = len(mailbox.mails)
    asked = (await client.post("/v1/sign-ins", json={"email": EMAIL})).json()
    link = (await mailbox.arrived(before + 1))[-1]
    body = {"token": token_in(link), "binding": asked["binding"]}
    told = await client.post("/v1/sessions", json=body)
    assert told.status_code == 201, told.text
    assert (await client.post("/v1/sessions", json=body)).status_code == 403, "the link works once"
    return {"Authorization": f"Bearer {told.json()['key']}"}


def traces_in(text: str, settings: Settings) -> list[str]:
    """What of Amina is in this text, in whatever form it could be."""
    signer = settings.key_ring.digest(canonical(EMAIL))
    secrets = [EMAIL, "hidden", PHONE, "Okello", "Amina"]
    forms = [form for secret in secrets for form in (secret, secret.encode().hex())]
    forms += [
        signer.hex(),
        base64.b64encode(signer).decode(),
        *(base64.b64encode(s.encode()).decode() for s in secrets),
    ]
    return [form for form in forms if form.lower() in text.lower()]


@pytest.mark.parametrize(
    ("choice", "left"), [("keep", {"by-mail": 2, "at-once": 2}), ("withdraw", dict.fromkeys(("by-mail", "at-once"), 1))]
)
async def test_whoever_leaves_is_known_to_nobody_and_every_tally_still_sums(
    client: httpx.AsyncClient,
    database: Database,
    settings: Settings,
    worker: Settings,
    mailbox: SmtpServer,
    cluster: Cluster,
    url: str,
    owner: Headers,
    choice: str,
    left: dict[str, int],
) -> None:
    await insert_petition(database, "by-mail", confirmation="email")
    await insert_petition(database, "at-once")
    with capture_logs() as logs:
        for slug in ("by-mail", "at-once"):
            for body in (AMINA, person(2)):
                assert (await client.post(f"/v1/petitions/{slug}/signatures", json=body)).status_code == 201
        # Two to confirm the signature, and one that asks her whether she agrees to news, though it counts without.
        for mail in await mailbox.arrived(3):
            assert "/confirm?" in mail.links[0]
            await prove(client, token_in(mail), [0])
        # And one that welcomes her, for she has.
        await mailbox.arrived(4)
        await wait_until(database, _DONE)
        assert await exact_counts(database) == {"by-mail": 2, "at-once": 2}

        me = await sign_in(client, mailbox)
        await _look_around(client, me)
        exported = await client.get("/v1/me/export", headers=me)
        assert traces_in(exported.text, settings)
        assert traces_in((await client.get("/v1/organizations/movement/people", headers=owner)).text, settings)

        for _ in range(2):
            answer = await client.post("/v1/me/erasure", json={"signatures": choice}, headers=me)
            assert answer.status_code in {200, 401}
        assert answer.status_code == 401, "the key opens nothing any more"

    assert await exact_counts(database) == left
    dumped = cluster.dump(url)
    assert "Kampala" in dumped or choice == "withdraw", "what was counted is still there, as nobody's"
    assert traces_in(dumped, settings) == []
    assert traces_in(str(logs), settings) == []
    await _ask_everywhere(client, owner, settings)
    hours = await run(database, "SELECT signed_at FROM signatures WHERE sealed = ''")
    assert all((row[0].minute, row[0].second, row[0].microsecond) == (0, 0, 0) for row in hours)


async def _look_around(client: httpx.AsyncClient, me: Headers) -> None:
    """What her page shows, and what she adds to it."""

    async def ask(method: str, path: str, **more: object) -> Json:
        answer = await client.request(method, f"/v1/me{path}", headers=me, **more)  # type: ignore[arg-type]
        assert answer.status_code in {200, 201}, answer.text
        told: Json = answer.json()
        return told

    assert (await ask("GET", ""))["email"] == EMAIL
    signed = (await ask("GET", "/signatures"))["items"]
    assert {(item["slug"], item["state"]) for item in signed} == {("by-mail", "confirmed"), ("at-once", "confirmed")}
    entries = (await ask("GET", "/consents"))["items"]
    assert {(entry["organization"], entry["given"], entry["page"]) for entry in entries} == {
        ("movement", True, "hidden-page")
    }
    refused = await client.patch("/v1/me", json={"phone": PHONE}, headers=me)
    assert refused.status_code == 409, "a phone number needs consent"
    await ask("POST", "/consents", json={"organization": "movement", "purpose": "phone", "given": True})
    await ask("PATCH", "", json={"phone": PHONE})
    assert len((await ask("GET", "/sessions"))["items"]) == 1


async def _ask_everywhere(client: httpx.AsyncClient, owner: Headers, settings: Settings) -> None:
    """No route knows her, not to the movement's owner either."""
    paths = ["/v1/organizations/movement/people"]
    for slug in ("by-mail", "at-once"):
        at = f"/v1/petitions/{slug}"
        paths += [at, f"{at}/count", f"{at}/trends", f"{at}/retention", f"{at}/held"]
        paths += [f"{at}/tally?by={by}" for by in ("country", "region", "hour", "source", "country_day")]
    for path in paths:
        answer = await client.get(path, headers=owner)
        assert answer.status_code == 200, path
        assert traces_in(answer.text, settings) == [], path
        if "tally" in path:
            told = answer.json()
            assert sum(row["signature_count"] for row in told["rows"]) == told["total"]


async def test_a_data_officer_erases_whoever_has_asked_for_it_by_letter(
    client: httpx.AsyncClient,
    database: Database,
    settings: Settings,
    cluster: Cluster,
    url: str,
    data_officer: Headers,
) -> None:
    await insert_petition(database, "at-once")
    for body in (AMINA, person(2)):
        assert (await client.post("/v1/petitions/at-once/signatures", json=body)).status_code == 201
    asked = {"email": EMAIL.upper(), "signatures": "keep"}
    answers = [await client.post("/v1/erasures", json=asked, headers=data_officer) for _ in range(2)]
    unknown = await client.post("/v1/erasures", json=asked | {"email": "nobody@example.org"}, headers=data_officer)
    assert {(answer.status_code, answer.text) for answer in (*answers, unknown)} == {(200, '{"status":"erased"}')}
    assert await exact_counts(database) == {"at-once": 2}
    assert traces_in(cluster.dump(url), settings) == []
    wrong = await client.post("/v1/erasures", json={"email": EMAIL}, headers=data_officer)
    assert wrong.status_code == 422
    assert traces_in(wrong.text, settings) == []
