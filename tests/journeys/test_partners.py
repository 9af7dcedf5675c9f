"""Sisters of Kampala collect signatures on their own pages, bring them, and are told what becomes of their people.

From the invitation to the end, through the public surface alone: the worker, a mail server, an endpoint that listens
for HTTP and verifies with the public library. The Strangers are a partner too, of another campaign, and learn nothing.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.application import running_worker
from tests.support.databases import wait_until
from tests.support.factories import UNPROVEN, person
from tests.support.mailed_links import sign_and_prove
from tests.support.smtp import SmtpServer
from tests.support.tallies import exact_counts
from tests.support.types import Json

Headers = dict[str, str]

TYPES = [
    "petition.published",
    "petition.milestone_reached",
    "petition.closed",
    "signature.counted",
    "signature.withdrawn",
    "person.erased",
]
# What has happened has been told, or told to nobody, once all of this is gone.
_QUIET = """
    SELECT NOT EXISTS (SELECT FROM outbox_messages) AND NOT EXISTS (SELECT FROM webhook_messages WHERE state = 'due')
    AND NOT EXISTS (SELECT FROM signatures WHERE consents_due AND state = 'confirmed' OR withdrawn_id IS NOT NULL)
"""


class Ear:
    """Where a partner listens. What it heard is verified before it is believed."""

    def __init__(self) -> None:
        self.heard: list[Json] = []
        self.secret = ""
        self._news = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def listening(cls) -> AsyncIterator[Self]:
        ear = cls()
        server = await asyncio.start_server(ear._answer, "127.0.0.1", 0)
        ear.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks"
        async with server:
            yield ear

    url = ""

    async def next(self, type_: str) -> Json:
        """The data of the next message of this type."""
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: any(message["type"] == type_ for message in self.heard))
            message = next(message for message in self.heard if message["type"] == type_)
            self.heard.remove(message)
            data: Json = message["data"]
            return data

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
                body = await reader.readexactly(int(headers["content-length"]))
                message = Webhook(self.secret).verify(body, headers)
                async with self._news:
                    self.heard.append(message)
                    self._news.notify_all()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()


class Organization:
    """A partner organization, with a key and, once it has made one, a secret."""

    def __init__(self, client: httpx.AsyncClient, slug: str, key: Headers) -> None:
        self._client = client
        self.slug = slug
        self.key = key
        self.secret = ""

    async def ask(self, method: str, path: str, status: int = 200, **more: object) -> Json:
        """What is answered to the organization's own key."""
        answer = await self._client.request(method, path, headers=self.key, **more)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        told: Json = answer.json() if answer.content else {}
        return told

    async def make_secret(self) -> Json:
        """A secret, which signs from now on."""
        made = await self.ask("POST", f"/v1/partners/{self.slug}/webhook-secrets", 201, json={})
        self.secret = made["secret"]
        return made

    async def listen(self, ear: Ear) -> None:
        body = {"url": ear.url, "types": TYPES}
        path = f"/v1/organizations/{self.slug}/webhook-endpoints"
        ear.secret = (await self.ask("POST", path, 201, json=body))["secret"]

    async def bring(self, *signatures: Json, secret: str | None = None) -> httpx.Response:
        body = "".join(json.dumps(signature) + "\n" for signature in signatures)
        id_, moment = f"msg_{uuid4().hex}", datetime.now(UTC)
        headers = {
            "content-type": "application/x-ndjson",
            "webhook-id": id_,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": Webhook(secret or self.secret).sign(id_, moment, body),
        }
        return await self._client.post(f"/v1/partners/{self.slug}/signatures", content=body, headers=headers)

    async def pull(self, **asked: str) -> Json:
        return await self.ask("GET", f"/v1/partners/{self.slug}/signers", params=asked)


@pytest.fixture
def mailbox() -> Iterator[SmtpServer]:
    with SmtpServer() as mailbox:
        yield mailbox


@pytest.fixture
async def worker(settings: Settings, mailbox: SmtpServer) -> AsyncIterator[Settings]:
    async with running_worker(settings, smtp_url=SecretStr(mailbox.url)) as chosen:
        yield chosen


async def invite(client: httpx.AsyncClient, owner: Headers, slug: str, petition: str) -> Organization:
    """Staff make a campaign with a petition and a partner for it; the partner accepts the terms."""

    async def staff(path: str, body: Json | None = None) -> Json:
        answer = await client.post(path, json=body, headers=owner)
        assert answer.is_success, answer.text
        told: Json = answer.json()
        return told

    campaign = f"campaign-of-{slug}"
    await staff("/v1/campaigns", {"slug": campaign, "title": "Title", "goal": "Goal"})
    body = {"slug": petition, "title": "T", "ask": "A", "signature_goal": 3, **UNPROVEN}
    await staff(f"/v1/campaigns/{campaign}/petitions", body)
    await staff("/v1/organizations", {"slug": slug, "name": slug})
    key = await staff(f"/v1/organizations/{slug}/api-keys", {"role": "partner"})
    terms = {
        "organization": slug,
        "terms": "Show people the whole text they sign, and ask them.",
        "consents": [{"organization": slug, "answer": "asked"}],
        "receives_signers": True,
    }
    invitation = await staff(f"/v1/campaigns/{campaign}/partnerships", terms)
    organization = Organization(client, slug, {"Authorization": f"Bearer {key['key']}"})
    (listed,) = (await organization.ask("GET", f"/v1/partners/{slug}/partnerships"))["items"]
    assert (listed["id"], listed["state"]) == (invitation["id"], "invited")
    await organization.ask("POST", f"/v1/partnerships/{listed['id']}/accept")
    await organization.make_secret()
    return organization


def signature(number: int, organization: str, petition: str, *, agrees: bool) -> Json:
    consents = [{"organization": organization, "given": agrees, "page": "sisters.example.org/sign"}]
    return person(number, petition=petition, id=f"crm:{number}", consents=consents)


async def sign_in(client: httpx.AsyncClient, mailbox: SmtpServer, number: int) -> Headers:
    """A person's own key, by the link in a mail."""
    email = person(number)["email"]
    asked = (await client.post("/v1/sign-ins", json={"email": email})).json()
    links: list[str] = []
    seen = 0
    while not links:
        mails = await mailbox.arrived(seen + 1)
        seen = len(mails)
        links = [mail.links[0] for mail in mails if mail.to == email and "/sign-in" in mail.links[0]]
    token = parse_qs(urlsplit(links[-1]).query)["token"][0]
    told = await client.post("/v1/sessions", json={"token": token, "binding": asked["binding"]})
    assert told.status_code == 201, told.text
    return {"Authorization": f"Bearer {told.json()['key']}"}


async def publish(client: httpx.AsyncClient, owner: Headers, petition: str) -> None:
    assert (await client.post(f"/v1/petitions/{petition}/publish", headers=owner)).status_code == 200


async def test_a_partner_brings_signatures_and_is_told_until_the_partnership_ends(
    client: httpx.AsyncClient,
    database: Database,
    worker: Settings,
    mailbox: SmtpServer,
    owner: Headers,
) -> None:
    sisters = await invite(client, owner, "sisters", "repeal-the-act")
    strangers = await invite(client, owner, "strangers", "something-else")
    async with Ear.listening() as ear, Ear.listening() as strange_ear:
        await sisters.listen(ear)
        await strangers.listen(strange_ear)
        await publish(client, owner, "repeal-the-act")
        assert (await ear.next("petition.published"))["petition"]["slug"] == "repeal-the-act"

        person_of, signature_of = await _bring(sisters, ear, database)
        assert (await ear.next("petition.milestone_reached"))["signature_count"] == 3
        kept = await _pull(sisters, person_of)

        grace, amina = person_of["crm:2"], person_of["crm:1"]
        me = await sign_in(client, mailbox, 2)
        await client.post("/v1/me/signatures/repeal-the-act/withdraw", headers=me)
        told = await ear.next("signature.withdrawn")
        assert (told["person_id"], told["signature_id"]) == (grace, signature_of["crm:2"])
        again = await sisters.bring(signature(2, "sisters", "repeal-the-act", agrees=True))
        assert again.json()["duplicate"] == 1, "who has withdrawn is not brought back"
        assert await exact_counts(database) == {"repeal-the-act": 2, "something-else": 0}

        me = await sign_in(client, mailbox, 1)
        assert (await client.post("/v1/me/erasure", json={"signatures": "keep"}, headers=me)).status_code == 200
        told = await ear.next("person.erased")
        assert told.pop("at") is not None
        assert told == {"person_id": amina, "signature_ids": [signature_of["crm:1"]]}
        assert await exact_counts(database) == {"repeal-the-act": 2, "something-else": 0}
        assert (await sisters.pull())["items"] == [], "who has left is not there any more"
        assert (await sisters.pull(cursor=kept))["items"] == []

        await _rotate(sisters)
        await wait_until(database, _QUIET)
        ear.heard.clear()

        await _end(client, owner, sisters)
        await _nothing_more_is_told(client, database, ear)
        assert await exact_counts(database) == {"repeal-the-act": 5, "something-else": 0}

        assert (await strangers.pull())["items"] == []
        assert strange_ear.heard == []


async def _bring(sisters: Organization, ear: Ear, database: Database) -> tuple[dict[str, str], dict[str, str]]:
    """Three people, of whom two agree; person and signature by the partner's own ids."""
    people = [signature(number, "sisters", "repeal-the-act", agrees=number != 3) for number in (1, 2, 3)]
    unasked = person(4, petition="repeal-the-act", id="crm:4")
    elsewhere = signature(5, "sisters", "something-else", agrees=True)
    answer = await sisters.bring(*people, unasked, elsewhere)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert [result["status"] for result in told["results"]] == ["counted"] * 3 + ["refused"] * 2
    slugs = [result["problem"]["type"].rpartition(":")[2] for result in told["results"][3:]]
    assert slugs == ["consent-missing", "petition-not-covered"]
    assert await exact_counts(database) == {"repeal-the-act": 3, "something-else": 0}

    heard: list[Json] = []
    while len(heard) < 2:
        heard += (await ear.next("signature.counted"))["signatures"]
    assert {one["reference"]: (one["email"], one["signature_id"]) for one in heard} == {
        f"crm:{number}": (person(number)["email"], told["results"][number - 1]["signature_id"]) for number in (1, 2)
    }
    again = (await sisters.bring(*people)).json()
    assert [result["status"] for result in again["results"]] == ["duplicate"] * 3
    person_of = {one["reference"]: one["person_id"] for one in heard}
    return person_of, {result["id"]: result["signature_id"] for result in told["results"][:3]}


async def _pull(sisters: Organization, person_of: dict[str, str]) -> str:
    """The same two, one on each page; the cursor behind them."""
    first = await sisters.pull(limit="1")
    second = await sisters.pull(limit="1", cursor=first["next_cursor"])
    assert second["next_cursor"] is None
    pulled = [*first["items"], *second["items"]]
    assert {one["reference"]: one["person_id"] for one in pulled} == person_of
    cursor: str = second["cursor"]
    return cursor


async def _rotate(sisters: Organization) -> None:
    """A new secret beside the old one, which is then ended."""
    former = sisters.secret
    listed = (await sisters.ask("GET", "/v1/partners/sisters/webhook-secrets"))["items"]
    await sisters.make_secret()
    brought = [
        await sisters.bring(signature(number, "sisters", "repeal-the-act", agrees=False), secret=secret)
        for number, secret in ((6, former), (7, sisters.secret))
    ]
    assert [answer.json()["counted"] for answer in brought] == [1, 1]
    await sisters.ask("DELETE", f"/v1/partners/sisters/webhook-secrets/{listed[0]['id']}", 204)
    refused = await sisters.bring(signature(8, "sisters", "repeal-the-act", agrees=False), secret=former)
    assert refused.status_code == 401


async def _end(client: httpx.AsyncClient, owner: Headers, sisters: Organization) -> None:
    """Staff end the partnership: nothing is taken any more, and nobody is given away."""
    (active,) = (await sisters.ask("GET", "/v1/partners/sisters/partnerships"))["items"]
    ended = await client.post(f"/v1/partnerships/{active['id']}/end", headers=owner)
    assert (ended.status_code, ended.json()["state"]) == (200, "ended")
    refused = await sisters.bring(signature(9, "sisters", "repeal-the-act", agrees=True))
    assert [one["problem"]["type"] for one in refused.json()["results"]] == [
        "urn:multitude:problem:petition-not-covered"
    ]
    await sisters.ask("GET", "/v1/partners/sisters/signers", 403)


async def _nothing_more_is_told(client: httpx.AsyncClient, database: Database, ear: Ear) -> None:
    body = {**person(10), "consents": [{"organization": "sisters", "given": True}]}
    await sign_and_prove(client, "repeal-the-act", body)
    # What has reached the outbox before it is taken out with it, or earlier.
    await wait_until(database, "SELECT count(*) = 1 FROM consents WHERE given AND partner_id IS NULL")
    await wait_until(database, _QUIET)
    assert ear.heard == []
