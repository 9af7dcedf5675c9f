"""Nobody learns of another: two services that differ in one signer look alike to a stranger, to a partner of another
campaign and to an analyst, in answers, headers, mails, metrics and logs.

In one of them X has done something; in the other Y, of whom nobody asks, has done the same. Then everybody does all
that they can do with X's address. Everything real: the worker, a mail server, two databases.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pprint import pformat
from uuid import UUID, uuid4

import pytest

from app.kit.crypto.sealing import KeyRing
from app.organizations.models import Organization
from app.organizations.queries import find
from app.organizations.service import create_key
from app.partners.inbound.secrets.service import add
from app.petitions.queries import moment
from app.signatures.reading.published import TallyPublisher
from tests.support.attempts import prove
from tests.support.databases import run, wait_until
from tests.support.factories import insert_petition, people_like, person
from tests.support.partner_posts import LINES, item, lines, signed
from tests.support.partners import campaign_of, insert_partner, insert_partnership
from tests.support.postgres import Cluster
from tests.support.settings import RING
from tests.support.time_travel import age
from tests.support.types import Headers, Json
from tests.support.worlds import World, world

# Two services are started and settled for each role.
pytestmark = pytest.mark.slow

X, Y = person(5000, "AQ"), person(5001, "AQ")
JUNK = people_like(4, lambda number: person(6000 + number, "AQ"))
NEWS = [{"organization": "movement", "given": True}]
MAILED, COUNTED, THEIRS = "/v1/petitions/mailed", "/v1/petitions/counted", "theirs"
SECRET = "whsec_" + "A" * 43 + "="
# What follows is done before the minute ends: trends and exact tallies are told by the minute.
_EARLY = "SELECT extract(second FROM clock_timestamp()) < 40"
Role = Callable[[World, Json], Awaitable[None]]


@pytest.fixture
def two_urls(cluster: Cluster, template: str) -> Iterator[tuple[str, str]]:
    """Two databases of this test's own."""
    name = f"test_{uuid4().hex[:12]}"
    with cluster.fresh(f"{name}_x", template) as one, cluster.fresh(f"{name}_y", template) as other:
        yield one.url, other.url


async def sign(one: World, at: str, body: Json) -> Json:
    answer = await one.client.post(f"{at}/signatures", json=body)
    assert answer.status_code == 201, answer.text
    told: Json = answer.json()
    return told


async def signed_and_proven(one: World, at: str, body: Json, accepting: tuple[int, ...] = ()) -> str:
    told = await sign(one, at, body)
    petition = (await one.client.get(at)).json()
    return await prove(one.client, UUID(petition["id"]), body, told, accepting=accepting)


async def nothing(one: World, body: Json) -> None:
    """X is not known at all, nor is Y: the control, in which only the tests' own noise could differ."""


async def pending(one: World, body: Json) -> None:
    await sign(one, MAILED, body)


async def confirmed(one: World, body: Json) -> None:
    await signed_and_proven(one, MAILED, body)


async def counted(one: World, body: Json) -> None:
    await sign(one, COUNTED, body)


async def withdrawn(one: World, body: Json) -> None:
    receipt = await signed_and_proven(one, MAILED, body)
    answer = await one.client.post(f"{MAILED}/withdrawals", json={"receipt": receipt})
    assert answer.status_code == 200


async def consenting(one: World, body: Json) -> None:
    await signed_and_proven(one, MAILED, body | {"consents": NEWS}, accepting=(0,))


async def signed_in(one: World, body: Json) -> None:
    """Has consents, and a session; no link of theirs is good any more."""
    await consenting(one, body)
    asked = (await one.client.post("/v1/sign-ins", json={"email": body["email"]})).json()
    await one.settle()
    links = [link for mail in one.mailbox.to(body["email"]) for link in mail.links]
    (link,) = (link for link in links if "/sign-in" in link)
    token = link.partition("token=")[2]
    begun = await one.client.post("/v1/sessions", json={"token": token, "binding": asked["binding"]})
    assert begun.status_code == 201, begun.text


ROLES: list[Role] = [nothing, pending, confirmed, counted, withdrawn, consenting, signed_in]


async def furnish(one: World) -> tuple[Headers, Headers]:
    """The petitions, a crowd, and the keys of an analyst and of a partner of another campaign."""
    await insert_petition(one.database, "mailed", confirmation="email")
    await insert_petition(one.database, "counted", accept_unproven=True)
    theirs = await insert_petition(one.database, THEIRS, confirmation="email")
    organization_id, partner = await insert_partner(one.database, "sisters", "Sisters")
    await insert_partnership(one.database, organization_id, await campaign_of(one.database, theirs))
    async with one.database.transaction() as session:
        movement = await find(session, "movement")
        assert movement is not None
        _, key = await create_key(session, movement, "analyst")
        await add(session, RING, await session.get_one(Organization, organization_id), "standard", secret=SECRET)
    for body in people_like(60):
        await sign(one, COUNTED, body)
    for body in people_like(8):
        await signed_and_proven(one, MAILED, body)
    return {"Authorization": f"Bearer {key}"}, partner


async def stranger(one: World) -> None:
    """All that can be done with X's address, and junk beside it that would lift X's country over a threshold."""
    for at in (MAILED, COUNTED):
        told = []
        for body in (X, *JUNK, X, X | {"consents": NEWS}):
            told.append((await one.ask("POST", f"{at}/signatures", json=body)).json())
            await one.settle()
        await one.ask("GET", f"{at}/tally?by=country")
        for answer in told:
            await one.ask("POST", f"{at}/withdrawals", json={"receipt": answer["receipt"]})
        await one.ask("POST", f"{at}/withdrawals", json={"receipt": "A" * 83})
        await one.ask("POST", f"{at}/withdrawals", json={"receipt": told[0]["receipt"]})
        await one.ask("GET", f"{at}/count")
        await one.ask("POST", f"{at}/signatures", json=X | {"country": "XX"})
    for path in ("", "/preview"):
        await one.ask("POST", f"/v1/confirmations{path}", json={"token": "A" * 110})
    for _ in range(2):
        await one.ask("POST", "/v1/sign-ins", json={"email": X["email"]})
        await one.settle()
    await one.ask("POST", "/v1/sign-ins", json={"email": X["email"].upper()})
    await one.ask("POST", "/unsubscribe?token=" + "A" * 60)
    await one.ask("GET", "/v1/me")


async def partner_elsewhere(one: World, key: Headers) -> None:
    """Brings X to its own petition, twice, and lists all that it may list."""
    body = lines(item(5000, THEIRS, id="crm:x"), item(7000, THEIRS))
    for secret in (SECRET, SECRET, "whsec_" + "B" * 43 + "="):
        headers = {"content-type": LINES, **signed(secret, body)}
        await one.ask("POST", "/v1/partners/sisters/signatures", content=body, headers=headers)
        await one.settle()
    for path in ("partners/sisters/signers", "organizations/sisters/people", "organizations/movement/people"):
        await one.ask("GET", f"/v1/{path}", headers=key)


async def analyst(one: World, key: Headers) -> None:
    """Tallies, trends, and what a rule that names X's domain would match."""
    for slug in ("mailed", "counted", THEIRS):
        for by in ("country", "hour", "source", "region"):
            await one.ask("GET", f"/v1/petitions/{slug}/tally?by={by}", headers=key)
        await one.ask("GET", f"/v1/petitions/{slug}/trends", headers=key)
        rule = {"reason": "Junk", "rule": {"domains": ["example.org"]}}
        await one.ask("POST", f"/v1/petitions/{slug}/invalidations", json=rule, headers=key)


async def publish(one: World) -> None:
    """The hourly publication, as the worker does it, after two snapshots."""
    for _ in range(2):
        async with one.database.transaction() as session:
            await TallyPublisher(KeyRing.parse("publishing-secret-that-is-only-for-tests")).publish(
                session, await moment(session)
            )
    for by in ("country", "hour"):
        await one.ask("GET", f"{COUNTED}/tally?by={by}")


async def look(url: str, role: Role, who: Json) -> dict[str, list[str]]:
    async with world(url) as one:
        await wait_until(one.database, _EARLY, 60)
        analysts, partners = await furnish(one)
        await role(one, who)
        await one.settle()
        # Of the minutes that trends tell of, whenever they are asked; and what was published while the crowd came.
        await age(one.database, "signatures", "signed_at", "2 minutes")
        await run(one.database, "DELETE FROM published_tallies")
    # Some hours later, so that no limit by the hour remembers what was done: the same database, a new service.
    async with world(url) as one:
        await wait_until(one.database, "SELECT EXISTS (SELECT FROM published_tallies)")
        await wait_until(one.database, _EARLY, 60)
        await one.begin()
        await stranger(one)
        await publish(one)
        await partner_elsewhere(one, partners)
        await analyst(one, analysts)
        return await one.seen()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.__name__)
async def test_whether_somebody_has_signed_shows_nowhere(two_urls: tuple[str, str], role: Role) -> None:
    with_x, without = [await look(url, role, who) for url, who in zip(two_urls, (X, Y), strict=True)]
    if role is counted:
        # Where nobody proves anything the count moves by one when somebody is new (`docs/privacy.md`): so does this.
        for seen in (with_x, without):
            seen["metrics"] = [line for line in seen["metrics"] if "signatures_accepted" not in line]
    differences = {
        kind: (Counter(with_x[kind]) - Counter(without[kind]), Counter(without[kind]) - Counter(with_x[kind]))
        for kind in with_x
        if with_x[kind] != without[kind]
    }
    assert differences == {}, pformat(differences, width=300)
