"""What cannot be undone waits: a day, in which it can be cancelled, or until a second person says so."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.people.account.service import remember
from app.people.account.sessions import begin
from app.people.sealing import Details
from app.settings import Settings
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.second_person import confirm
from tests.support.tallies import exact_counts
from tests.support.time_travel import age
from tests.support.types import Headers, Json

MakeKey = Callable[..., Awaitable[Headers]]

AT = "/v1/petitions/end-the-ban"
WAITING = "/v1/pending-acts"
KEYS = "/v1/organizations/movement/api-keys"
SECOND_PERSON_NEEDED = "urn:multitude:problem:second-person-needed"


@pytest.fixture
async def closed(database: Database) -> UUID:
    """A closed petition."""
    return await insert_petition(database, state="closed", opens_at=now() - timedelta(hours=1), closes_at=now())


async def state_of(client: httpx.AsyncClient) -> str:
    state: str = (await client.get(AT)).json()["state"]
    return state


async def a_day_passes(database: Database) -> None:
    await age(database, "pending_acts", "due_at", "1 day")
    await sweep(database)


async def asked_for(client: httpx.AsyncClient, headers: Headers) -> Json:
    answer = await client.post(f"{AT}/archive", headers=headers)
    assert answer.status_code == 202, answer.text
    view: Json = answer.json()
    assert answer.headers["location"] == f"{WAITING}/{view['id']}"
    return view


async def test_archiving_waits_a_day_and_is_then_done_once(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, closed: UUID, database: Database
) -> None:
    act = await asked_for(client, campaigner)
    assert (act["verb"], act["object_id"], act["state"]) == ("petition.archive", str(closed), "waiting")
    assert timedelta(hours=23) < datetime.fromisoformat(act["due_at"]) - now() <= timedelta(days=1)
    await sweep(database)
    assert await state_of(client) == "closed"
    await a_day_passes(database)
    assert await state_of(client) == "archived"
    shown = (await client.get(f"{WAITING}/{act['id']}", headers=campaigner)).json()
    assert (shown["state"], shown["decided_by"], shown["failure"]) == ("done", None, None)
    await a_day_passes(database)
    log = (await client.get("/v1/audit-log", headers=owner, params={"verb": "petition.archive"})).json()["items"]
    assert [(one["category"], one["pending_act_id"]) for one in log] == [("act", act["id"]), ("request", act["id"])]
    assert {one["object_id"] for one in log} == {str(closed)}
    assert {one["key_id"] for one in log} == {act["asked_by"]}
    assert (await client.post(f"{AT}/archive", headers=campaigner)).status_code == 200


async def test_what_is_asked_for_twice_waits_once(client: httpx.AsyncClient, campaigner: Headers, closed: UUID) -> None:
    first, second = await asked_for(client, campaigner), await asked_for(client, campaigner)
    assert first == second
    listed = (await client.get(WAITING, headers=campaigner, params={"state": "waiting"})).json()["items"]
    assert listed == [first]


async def test_a_second_person_has_it_done_at_once(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, closed: UUID
) -> None:
    act = await asked_for(client, campaigner)
    answer = await client.post(f"{WAITING}/{act['id']}/confirm", headers=owner)
    assert (answer.status_code, answer.json()["state"]) == (200, "done")
    assert await state_of(client) == "archived"
    again = await client.post(f"{WAITING}/{act['id']}/confirm", headers=owner)
    assert (again.status_code, again.json()["type"]) == (409, "urn:multitude:problem:pending-act-decided")
    log = (await client.get("/v1/audit-log", headers=owner)).json()["items"]
    assert [one["verb"] for one in log] == ["pending_act.confirm", "petition.archive", "petition.archive"]


async def test_nobody_is_a_second_person_to_themselves(
    client: httpx.AsyncClient, owner: Headers, campaigner: Headers, closed: UUID
) -> None:
    """Not with the same key, nor one it made, nor its maker's, nor a sister's, however far."""

    async def made(headers: Headers, role: str) -> Headers:
        answer = await client.post(KEYS, json={"role": role}, headers=headers)
        return {"Authorization": f"Bearer {answer.json()['key']}"}

    child = await made(owner, "owner")
    asking, sister, grandchild = await made(owner, "campaigner"), await made(owner, "owner"), await made(child, "owner")
    act = await asked_for(client, asking)
    for headers in (asking, owner, child, sister, grandchild):
        answer = await client.post(f"{WAITING}/{act['id']}/confirm", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (403, SECOND_PERSON_NEEDED)
    assert await state_of(client) == "closed"
    assert (await client.post(f"{WAITING}/{act['id']}/confirm", headers=campaigner)).status_code == 200


async def test_keys_of_unknown_makers_are_one_person_s(
    client: httpx.AsyncClient, owner: Headers, campaigner: Headers, closed: UUID, database: Database, make_key: MakeKey
) -> None:
    await run(database, "UPDATE api_keys SET made_by = NULL")
    act = await asked_for(client, campaigner)
    refused = await client.post(f"{WAITING}/{act['id']}/confirm", headers=owner)
    assert (refused.status_code, refused.json()["type"]) == (403, SECOND_PERSON_NEEDED)
    newer = await make_key("owner")
    assert (await client.post(f"{WAITING}/{act['id']}/confirm", headers=newer)).status_code == 200


async def test_it_needs_the_role(
    client: httpx.AsyncClient,
    campaigner: Headers,
    analyst: Headers,
    data_officer: Headers,
    make_key: MakeKey,
    closed: UUID,
) -> None:
    act = await asked_for(client, campaigner)
    for headers in (analyst, data_officer):
        assert (await client.get(WAITING, headers=headers)).json()["items"] == []
        for verb in ("confirm", "cancel"):
            assert (await client.post(f"{WAITING}/{act['id']}/{verb}", headers=headers)).status_code == 404
    other = await make_key("campaigner")
    assert (await client.post(f"{WAITING}/{act['id']}/cancel", headers=other)).status_code == 403


@pytest.mark.parametrize("by", ["campaigner", "owner"])
async def test_it_is_cancelled_by_an_owner_or_whoever_asked(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, closed: UUID, database: Database, by: str
) -> None:
    act = await asked_for(client, campaigner)
    headers = {"campaigner": campaigner, "owner": owner}[by]
    answer = await client.post(f"{WAITING}/{act['id']}/cancel", headers=headers)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    await a_day_passes(database)
    assert await state_of(client) == "closed"


async def test_with_a_key_goes_what_it_asked_for(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, closed: UUID, database: Database
) -> None:
    act = await asked_for(client, campaigner)
    assert (await client.delete(f"{KEYS}/{act['asked_by']}", headers=owner)).status_code == 204
    await a_day_passes(database)
    assert await state_of(client) == "closed"
    assert (await client.get(f"{WAITING}/{act['id']}", headers=owner)).json()["state"] == "cancelled"


async def test_what_is_not_possible_any_more_fails_with_its_reason(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, closed: UUID, database: Database
) -> None:
    act = await asked_for(client, campaigner)
    assert (await client.post(f"{AT}/reopen", headers=campaigner)).status_code == 200
    await a_day_passes(database)
    assert await state_of(client) == "open"
    shown = (await client.get(f"{WAITING}/{act['id']}", headers=owner)).json()
    assert (shown["state"], shown["failure"]) == ("failed", "wrong-state")


async def test_what_fails_unexpectedly_is_tried_again_and_holds_nobody_up(
    client: httpx.AsyncClient, campaigner: Headers, closed: UUID, database: Database
) -> None:
    act = await asked_for(client, campaigner)
    await run(database, "UPDATE pending_acts SET verb = 'petition.unheard_of'")
    await a_day_passes(database)
    ((state, later),) = await run(database, "SELECT state, due_at > now() FROM pending_acts")
    assert (state, later) == ("waiting", True)
    await run(database, "UPDATE pending_acts SET verb = :verb", verb=act["verb"])
    await age(database, "pending_acts", "due_at", "1 hour")
    await sweep(database)
    assert await state_of(client) == "archived"


async def test_a_nearer_end_of_retention_waits_and_the_rest_does_not(
    client: httpx.AsyncClient, campaigner: Headers, closed: UUID, database: Database
) -> None:
    def day(ahead: int) -> str:
        return (now().date() + timedelta(days=ahead)).isoformat()

    async def until() -> date | None:
        ((found,),) = await run(database, "SELECT personal_data_until FROM petitions")
        return date.fromisoformat(str(found)) if found else None

    both = {"title": "End it now", "personal_data_until": day(1)}
    answer = await client.patch(AT, json=both, headers=campaigner)
    assert (answer.status_code, answer.json()["content"]) == (202, {"personal_data_until": day(1)})
    assert ((await client.get(AT)).json()["title"], await until()) == ("End it now", None)
    replaced = await client.patch(AT, json={"personal_data_until": day(30)}, headers=campaigner)
    assert replaced.json()["id"] != answer.json()["id"]
    await a_day_passes(database)
    assert str(await until()) == day(30)
    assert (await client.patch(AT, json={"personal_data_until": day(60)}, headers=campaigner)).status_code == 200
    assert (await client.patch(AT, json={"personal_data_until": day(59)}, headers=campaigner)).status_code == 202
    assert (await client.patch(AT, json={"personal_data_until": None}, headers=campaigner)).status_code == 200
    refused = await client.patch(AT, json={"personal_data_until": day(0)}, headers=campaigner)
    assert refused.status_code == 422


async def _erase(client: httpx.AsyncClient, headers: Headers, number: int) -> httpx.Response:
    body = {"email": f"person.{number}@example.org", "signatures": "withdraw"}
    return await client.post("/v1/erasures", json=body, headers=headers)


@pytest.fixture
async def signed(client: httpx.AsyncClient, database: Database) -> None:
    """Eight people have signed."""
    await insert_petition(database, confirmation="none")
    for number in range(8):
        answer = await client.post(f"{AT}/signatures", json=person(number))
        assert answer.status_code == 201, answer.text


async def test_the_sixth_erasure_of_a_day_waits_whoever_of_the_staff_asks(
    client: httpx.AsyncClient,
    data_officer: Headers,
    owner: Headers,
    make_key: MakeKey,
    signed: None,
    database: Database,
    settings: Settings,
) -> None:
    assert [(await _erase(client, data_officer, number)).status_code for number in range(5)] == [200] * 5
    waits = [await _erase(client, headers, 5) for headers in (data_officer, await make_key("data_officer"), owner)]
    assert [answer.status_code for answer in waits] == [202] * 3
    assert len({answer.json()["id"] for answer in waits}) == 1
    assert await exact_counts(database) == {"end-the-ban": 3}
    ((row,),) = await run(database, "SELECT pending_acts::text FROM pending_acts")
    assert settings.key_ring.digest("person.5@example.org").hex() in row
    assert "person.5" not in row
    assert "signer" not in waits[0].json()
    await a_day_passes(database)
    assert await exact_counts(database) == {"end-the-ban": 2}
    assert await run(database, "SELECT state, signer FROM pending_acts") == [("done", None)]
    await confirm(client, await _erase(client, data_officer, 6), owner)
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_erasures_begun_at_once_are_not_each_the_first(
    client: httpx.AsyncClient, data_officer: Headers, make_key: MakeKey, signed: None, database: Database
) -> None:
    keys = [data_officer, await make_key("data_officer")]
    for _ in range(3):
        answers = await asyncio.gather(*(_erase(client, keys[number % 2], number) for number in range(8)))
        assert {answer.status_code for answer in answers} <= {200, 202, 503}
    ((done,),) = await run(database, "SELECT count(*) FROM audit_entries WHERE category = 'destruction'")
    assert done <= 5


async def test_confirmed_by_two_at_once_it_is_done_once(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, make_key: MakeKey, closed: UUID, database: Database
) -> None:
    at = f"{WAITING}/{(await asked_for(client, campaigner))['id']}/confirm"
    seconds = [owner, await make_key("owner"), await make_key("campaigner")]
    answers = await asyncio.gather(*(client.post(at, headers=second) for second in seconds))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    done = "SELECT count(*) FROM audit_entries WHERE verb = 'petition.archive' AND category = 'act'"
    assert (await run(database, done))[0][0] == 1


async def test_erasures_of_yesterday_do_not_count(
    client: httpx.AsyncClient, data_officer: Headers, signed: None, database: Database
) -> None:
    for number in range(5):
        await _erase(client, data_officer, number)
    assert (await _erase(client, data_officer, 5)).status_code == 202
    await run(database, "ALTER TABLE audit_entries DISABLE TRIGGER appended_to")
    await age(database, "audit_entries", "at", "25 hours")
    await run(database, "ALTER TABLE audit_entries ENABLE TRIGGER appended_to")
    assert (await _erase(client, data_officer, 6)).status_code == 200


async def test_a_person_s_own_erasure_never_waits_and_ends_the_waiting(
    client: httpx.AsyncClient, data_officer: Headers, signed: None, database: Database, settings: Settings
) -> None:
    for number in range(6):
        await _erase(client, data_officer, number)
    signer, email = settings.key_ring.digest("person.5@example.org"), "person.5@example.org"
    async with database.transaction() as session:
        await remember(session, settings.key_ring, signer, email=email)
        key = {"Authorization": f"Bearer {(await begin(session, settings.key_ring, signer, Details(email))).key}"}
    shown = (await client.get("/v1/me/export", headers=key)).json()["pending_acts"]
    assert [one["verb"] for one in shown] == ["person.erase"]
    assert (await client.post("/v1/me/erasure", json={"signatures": "withdraw"}, headers=key)).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 2}
    assert await run(database, "SELECT state, signer FROM pending_acts") == [("cancelled", None)]


async def test_what_a_key_asked_for_ends_when_it_has_expired(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, closed: UUID, database: Database
) -> None:
    first = await asked_for(client, campaigner)
    await run(database, "UPDATE api_keys SET expires_at = now() WHERE role = 'campaigner'")
    await a_day_passes(database)
    shown = (await client.get(f"{WAITING}/{first['id']}", headers=owner)).json()
    assert (shown["state"], shown["decided_by"], shown["failure"]) == ("cancelled", None, "key-ended")
    assert await state_of(client) == "closed"


async def test_nobody_confirms_what_an_expired_key_asked_for(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, closed: UUID, database: Database
) -> None:
    act = await asked_for(client, campaigner)
    await run(database, "UPDATE api_keys SET expires_at = now() WHERE role = 'campaigner'")
    answer = await client.post(f"{WAITING}/{act['id']}/confirm", headers=owner)
    assert (answer.status_code, answer.json()["state"], answer.json()["failure"]) == (200, "cancelled", "key-ended")
    assert await state_of(client) == "closed"


async def test_only_who_may_cancel_an_act_replaces_it_and_the_log_says_so(
    client: httpx.AsyncClient, campaigner: Headers, owner: Headers, make_key: MakeKey, closed: UUID
) -> None:
    def until(days: int) -> Json:
        return {"personal_data_until": str((now() + timedelta(days=days)).date())}

    first = (await client.patch(AT, json=until(30), headers=campaigner)).json()
    refused = await client.patch(AT, json=until(20), headers=await make_key("campaigner"))
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:multitude:problem:another-act-waits")
    assert (await client.get(f"{WAITING}/{first['id']}", headers=owner)).json()["state"] == "waiting"
    for headers in (campaigner, owner):
        former = (await client.get(WAITING, headers=owner, params={"state": "waiting"})).json()["items"][0]
        days = 10 if headers is owner else 20
        assert (await client.patch(AT, json=until(days), headers=headers)).status_code == 202
        replaced = (await client.get(f"{WAITING}/{former['id']}", headers=owner)).json()
        assert replaced["state"] == "cancelled"
        log = (await client.get("/v1/audit-log", headers=owner, params={"verb": "pending_act.cancel"})).json()["items"]
        assert (log[0]["object_id"], log[0]["key_id"]) == (former["id"], replaced["decided_by"])
