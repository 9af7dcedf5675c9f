"""While two versions serve side by side, each reads what the other has sealed, and takes nothing away from it."""

import json

import httpx

from app.kit.crypto.bearer_secrets import digest_of
from app.kit.crypto.key_rotation import reseal
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.people.account.service import remember
from app.people.key_rotation import CONTACTS, MAILS, PEOPLE
from app.people.sealing import mails_identity, people_identity
from app.settings import Settings
from tests.support.databases import run
from tests.support.people_mails import AMINA, Postman, token_in
from tests.support.settings import SECRET_KEYS
from tests.support.types import Headers

RING = KeyRing.parse(SECRET_KEYS)
NEWER = KeyRing.parse(f"a-new-secret-that-is-only-for-tests-02,{SECRET_KEYS}")
NEWS = {"nickname": "Minah", "places": [{"cell": "876a4a8a8ffffff"}]}


_PUT = "UPDATE mails SET sealed = :sealed WHERE id = :id"


async def add_to_people(database: Database) -> None:
    """What the next version keeps of everybody beside what this one knows."""
    for signer, sealed in await run(database, "SELECT signer, sealed FROM people"):
        identity = people_identity(signer)
        plain = json.dumps(json.loads(RING.open(sealed, identity)) | NEWS)
        await run(database, "UPDATE people SET sealed = :sealed", sealed=RING.seal(plain.encode(), identity))


async def news_of(database: Database, ring: KeyRing = RING) -> dict[str, object]:
    ((signer, sealed),) = await run(database, "SELECT signer, sealed FROM people")
    kept = json.loads(ring.open(sealed, people_identity(signer)))
    return {name: kept[name] for name in NEWS}


async def test_a_person_is_shown_and_changed_and_what_the_next_version_keeps_stays(
    client: httpx.AsyncClient, amina: Headers, database: Database
) -> None:
    await client.patch("/v1/me", headers=amina, json={"given_name": "Amina"})
    await add_to_people(database)
    assert (await client.get("/v1/me", headers=amina)).json()["email"] == AMINA
    changed = await client.patch("/v1/me", headers=amina, json={"family_name": "Okello"})
    assert (changed.status_code, changed.json()["family_name"]) == (200, "Okello")
    assert (await client.get("/v1/me/export", headers=amina)).json()["person"]["family_name"] == "Okello"
    assert await news_of(database) == NEWS


async def test_rotating_the_keys_keeps_what_the_next_version_has_sealed(
    client: httpx.AsyncClient, amina: Headers, database: Database
) -> None:
    await client.patch("/v1/me", headers=amina, json={"given_name": "Amina"})
    await add_to_people(database)
    connection = await database.pin()
    try:
        for column in (PEOPLE, CONTACTS, MAILS):
            await reseal(database, connection, NEWER, column, lambda _: None)
    finally:
        await connection.close()
    assert await news_of(database, NEWER) == NEWS


async def test_a_mail_with_a_field_more_is_sent_and_one_that_cannot_be_read_costs_no_other(
    client: httpx.AsyncClient, database: Database, postman: Postman
) -> None:
    people = [f"person.{number}@example.org" for number in range(3)]
    for email in people:
        await client.post("/v1/sign-ins", json={"email": email})
        client.cookies.clear()
    (more, fewer, _) = await run(database, "SELECT id, sealed FROM mails ORDER BY id")
    content = json.loads(RING.open(more[1], mails_identity(more[0]))) | {"device": "a phone"}
    await run(database, _PUT, id=more[0], sealed=RING.seal(json.dumps(content).encode(), mails_identity(more[0])))
    await run(database, _PUT, id=fewer[0], sealed=RING.seal(b'{"device":"a phone"}', mails_identity(fewer[0])))
    assert [mail.recipient for mail in await postman.bring()] == [people[0], people[2]]
    assert await run(database, "SELECT id FROM mails") == [(fewer[0],)]


async def test_a_link_and_a_session_of_the_version_before_go_on(
    client: httpx.AsyncClient, database: Database, postman: Postman, settings: Settings
) -> None:
    """It gave out random bindings, noted nothing of mails, and made a row of everybody who signed in."""
    await client.post("/v1/sign-ins", json={"email": AMINA})
    (mail,) = await postman.bring()
    await run(database, "UPDATE sign_ins SET mailed_at = NULL, binding_digest = :digest", digest=digest_of("random"))
    body = {"token": token_in(mail), "binding": "random"}
    key = (await client.post("/v1/sessions", json=body)).json()["key"]
    async with database.transaction() as session:
        await remember(session, settings.key_ring, settings.key_ring.digest(AMINA), email=AMINA, given_name="Amina")
    await run(database, "UPDATE person_sessions SET sealed = NULL")
    headers = {"Authorization": f"Bearer {key}"}
    assert (await client.get("/v1/me", headers=headers)).json()["given_name"] == "Amina"
    assert (await client.patch("/v1/me", headers=headers, json={"locale": "sw"})).status_code == 200
    assert (await client.get("/v1/me/export", headers=headers)).json()["person"]["locale"] == "sw"
