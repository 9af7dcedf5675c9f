"""What this room keeps sealed comes under a newer key, and opens with that one alone."""

from collections.abc import Awaitable, Callable

import httpx

from app.kit.crypto.key_rotation import reseal
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.people.key_rotation import CONTACTS, MAILS, PEOPLE, SESSIONS
from app.people.sealing import open_contact, open_details, open_mail, open_session
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.people_mails import AMINA, Postman
from tests.support.settings import SECRET_KEYS as OLD
from tests.support.types import Headers, Json

NEW = "a-new-secret-that-is-only-for-tests-02"


async def test_people_contacts_sessions_and_mails_come_under_the_newest_key(
    client: httpx.AsyncClient,
    agree: Callable[..., Awaitable[Json]],
    sign_in: Callable[..., Awaitable[Headers]],
    postman: Postman,
    database: Database,
) -> None:
    await agree(consents=[{"organization": "movement", "given": True}])
    await sweep(database)
    await postman.bring()
    await sign_in(AMINA)
    await client.post("/v1/sign-ins", json={"email": AMINA})
    connection = await database.pin()
    try:
        for column in (PEOPLE, CONTACTS, SESSIONS, MAILS):
            done = await reseal(database, connection, KeyRing.parse(f"{NEW},{OLD}"), column, lambda _: None)
            assert (done.sealed_count, done.resealed_count, done.unreadable_count, done.left_count) == (1, 1, 0, 0)
    finally:
        await connection.close()
    alone = KeyRing.parse(NEW, OLD)
    ((signer, sealed),) = await run(database, "SELECT signer, sealed FROM people")
    assert open_details(alone, signer, sealed).email == AMINA
    ((organization_id, signer, contact),) = await run(database, "SELECT organization_id, signer, sealed FROM contacts")
    assert open_contact(alone, organization_id, signer, contact).email == AMINA
    ((id_, mail),) = await run(database, "SELECT id, sealed FROM mails")
    assert open_mail(alone, id_, mail).email == AMINA
    ((id_, begun),) = await run(database, "SELECT id, sealed FROM person_sessions")
    assert open_session(alone, id_, begun).email == AMINA
