"""People who sign in, and whoever brings them their mails."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import httpx
import pytest

from app.kit.abuse.rate_limits import Limiter, MemoryStorage
from app.kit.database.session import Database
from app.organizations.models import Organization
from app.people.mailing import PeopleMails
from app.settings import Settings
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import insert_petition
from tests.support.factories import person as somebody
from tests.support.mailed_links import sign_and_prove
from tests.support.people_mails import AMINA, TEMPLATES, Asked, Postman, token_in
from tests.support.types import Headers, Json

SignUp = Callable[..., Awaitable[Headers]]


@pytest.fixture
def postman(database: Database, settings: Settings) -> Postman:
    return Postman(PeopleMails(database, settings, TEMPLATES, Limiter(MemoryStorage())))


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a memory: what a browser would keep is handed over in plain sight."""
    async with serving(settings) as (_, _, client):
        yield client


@pytest.fixture
async def petition(database: Database) -> str:
    """An open petition's slug."""
    await insert_petition(database)
    return "end-the-ban"


@pytest.fixture
def sign(client: httpx.AsyncClient, petition: str) -> Callable[..., Awaitable[Json]]:
    """Sign the petition, as Amina unless told otherwise."""

    async def sign(email: str = AMINA, **more: object) -> Json:
        body = somebody(1, email=email, **more)
        answer = await client.post(f"/v1/petitions/{petition}/signatures", json=body)
        assert answer.status_code == 201, answer.text
        signed: Json = answer.json()
        return signed

    return sign


@pytest.fixture
def agree(client: httpx.AsyncClient, petition: str) -> Callable[..., Awaitable[Json]]:
    """Sign the petition and follow the mailed link, with all the consents ticked; as Amina unless told otherwise."""

    async def agree(email: str = AMINA, **more: object) -> Json:
        return await sign_and_prove(client, petition, somebody(1, email=email, **more))

    return agree


@pytest.fixture
async def sisters(database: Database) -> Organization:
    """A partner organization."""
    async with database.transaction() as session:
        organization = Organization(slug="sisters", name="Sisters of Kampala", kind="partner")
        session.add(organization)
    return organization


@pytest.fixture
def ask(client: httpx.AsyncClient, postman: Postman) -> Callable[..., Awaitable[Asked]]:
    """Ask for a link and take it out of the mail."""

    async def ask(email: str = AMINA, **more: object) -> Asked:
        answer = await client.post("/v1/sign-ins", json={"email": email, **more})
        assert answer.status_code == 202, answer.text
        client.cookies.clear()
        (mail,) = await postman.bring()
        assert mail.recipient == email
        return Asked(answer.json()["binding"], token_in(mail))

    return ask


@pytest.fixture
def sign_in(client: httpx.AsyncClient, ask: Callable[..., Awaitable[Asked]]) -> SignUp:
    """Sign in, from the mail to the key; the headers to use it."""

    async def sign_in(email: str = AMINA, **more: object) -> Headers:
        asked = await ask(email, **more)
        answer = await client.post("/v1/sessions", json={"token": asked.token, "binding": asked.binding})
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['key']}"}

    return sign_in


@pytest.fixture
async def amina(sign: Callable[..., Awaitable[Json]], sign_in: SignUp) -> Headers:
    """Amina, who has signed, signed in."""
    await sign()
    return await sign_in()


TABLES = ("people", "consents", "sign_ins", "person_sessions", "mails")


@pytest.fixture
def stored(database: Database) -> Callable[[], Awaitable[Sequence[object]]]:
    """Everything this room has stored, as it stands."""

    async def stored() -> Sequence[object]:
        return [row for table in TABLES for row in await run(database, f"SELECT * FROM {table} ORDER BY 1")]

    return stored
