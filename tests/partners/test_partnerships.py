"""Partnerships: invited, agreed to, replaced, ended; and what terms let a partner feed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import event

from app.kit.clock import now
from app.kit.database.session import Database
from app.partners.partnerships.terms import covered_petitions, receiving_campaigns, terms_of
from tests.support.databases import run
from tests.support.factories import insert_petition
from tests.support.partners import (
    Partner,
    insert_further_petition,
    insert_partner,
    insert_partnership,
    one_after_the_other,
)
from tests.support.types import Headers, Json

TERMS = "Show people the whole text they sign."
HELD = "SELECT 1 FROM partnerships FOR UPDATE"

Invite = Callable[..., Awaitable[Json]]


def slug_of(answer: httpx.Response) -> str:
    """Which problem this is."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    type_: str = answer.json()["type"]
    return type_.removeprefix("urn:multitude:problem:")


@pytest.fixture
def at(partnership: Partner) -> str:
    """Where a campaign's partnerships are."""
    return f"/v1/campaigns/{partnership.campaign}/partnerships"


@pytest.fixture
def invite(client: httpx.AsyncClient, campaigner: Headers, at: str, partnership: Partner) -> Invite:
    """Invite the partner, under new terms unless told otherwise."""

    async def invite(**more: object) -> Json:
        body = {"organization": partnership.slug, "terms": TERMS, **more}
        answer = await client.post(at, json=body, headers=campaigner)
        assert answer.status_code == 201, answer.text
        invitation: Json = answer.json()
        return invitation

    return invite


async def states(database: Database) -> list[str]:
    """The states of all partnerships, oldest first."""
    return [row[0] for row in await run(database, "SELECT state FROM partnerships ORDER BY id")]


async def test_the_life_of_a_partnership(
    client: httpx.AsyncClient, owner: Headers, campaigner: Headers, analyst: Headers, database: Database
) -> None:
    await insert_petition(database, "end-the-ban")
    body: Json = {"slug": "lawyers", "name": "Lawyers for Equality"}
    assert (await client.post("/v1/organizations", json=body, headers=owner)).status_code == 201
    made = await client.post("/v1/organizations/lawyers/api-keys", json={"role": "partner"}, headers=owner)
    partner = {"Authorization": f"Bearer {made.json()['key']}"}
    at = "/v1/campaigns/campaign-of-end-the-ban/partnerships"

    body = {
        "organization": "lawyers",
        "terms": TERMS,
        "petitions": ["end-the-ban"],
        "consents": [{"organization": "movement", "answer": "asked"}, {"organization": "lawyers", "answer": "given"}],
        "receives_signers": True,
        "default_country": "ug",
    }
    answer = await client.post(at, json=body, headers=campaigner)
    assert answer.status_code == 201
    invited = answer.json()
    assert {name: invited[name] for name in ("organization", "campaign", "state", "terms", "default_country")} == {
        "organization": "lawyers",
        "campaign": "campaign-of-end-the-ban",
        "state": "invited",
        "terms": TERMS,
        "default_country": "UG",
    }
    assert invited["consents"] == body["consents"]
    assert (invited["receives_signers"], len(invited["petition_ids"])) == (True, 1)

    (found,) = (await client.get("/v1/partners/lawyers/partnerships", headers=partner)).json()["items"]
    assert found == invited
    here = f"/v1/partnerships/{invited['id']}"
    assert (await client.get(here, headers=partner)).json() == invited

    accepted = (await client.post(f"{here}/accept", headers=partner)).json()
    assert accepted["state"] == "active"
    assert accepted["answered_at"] is not None
    again = await client.post(f"{here}/accept", headers=partner)
    assert (again.status_code, again.json()) == (200, accepted)

    ended = (await client.post(f"{here}/end", headers=campaigner)).json()
    assert ended["state"] == "ended"
    assert ended == accepted | {"state": "ended", "ended_by": ended["ended_by"], "ended_at": ended["ended_at"]}
    assert (await client.post(f"{here}/end", headers=partner)).json() == ended
    late = await client.post(f"{here}/accept", headers=partner)
    assert (late.status_code, slug_of(late)) == (409, "partnership-out-of-turn")
    (seen,) = (await client.get(at, headers=analyst)).json()["items"]
    assert seen == ended
    keys = await run(database, "SELECT id, role FROM api_keys")
    roles = {str(id_): role for id_, role in keys}
    assert [roles[ended[by]] for by in ("invited_by", "answered_by", "ended_by")] == [
        "campaigner",
        "partner",
        "campaigner",
    ]


async def test_an_invitation_can_be_declined_and_the_former_terms_stay(
    client: httpx.AsyncClient, invite: Invite, partner: Headers, database: Database, partnership: Partner
) -> None:
    here = f"/v1/partnerships/{(await invite())['id']}"
    declined = (await client.post(f"{here}/decline", headers=partner)).json()
    assert (declined["state"], declined["ended_at"]) == ("declined", None)
    assert (await client.post(f"{here}/decline", headers=partner)).json() == declined
    for verb in ("accept", "end"):
        answer = await client.post(f"{here}/{verb}", headers=partner)
        assert (answer.status_code, slug_of(answer)) == (409, "partnership-out-of-turn")
    assert await states(database) == ["active", "declined"]
    (terms,) = await ask(database, partnership)
    assert terms.partnership_id == partnership.partnership_id
    await invite()


async def test_what_is_agreed_cannot_be_declined(
    client: httpx.AsyncClient, partner: Headers, partnership: Partner, database: Database
) -> None:
    answer = await client.post(f"/v1/partnerships/{partnership.partnership_id}/decline", headers=partner)
    assert (answer.status_code, slug_of(answer)) == (409, "partnership-out-of-turn")
    assert await states(database) == ["active"]


async def test_an_invitation_can_be_taken_back_and_then_not_be_accepted(
    client: httpx.AsyncClient, invite: Invite, campaigner: Headers, partner: Headers, database: Database
) -> None:
    here = f"/v1/partnerships/{(await invite())['id']}"
    assert (await client.post(f"{here}/end", headers=campaigner)).json()["state"] == "ended"
    for verb in ("accept", "decline"):
        assert (await client.post(f"{here}/{verb}", headers=partner)).status_code == 409
    assert await states(database) == ["active", "ended"]


async def test_the_partner_may_end_it_too(client: httpx.AsyncClient, partner: Headers, partnership: Partner) -> None:
    answer = await client.post(f"/v1/partnerships/{partnership.partnership_id}/end", headers=partner)
    assert (answer.status_code, answer.json()["state"]) == (200, "ended")


async def test_a_partner_sees_and_changes_only_its_own(
    client: httpx.AsyncClient, stranger: Headers, partnership: Partner, invite: Invite, database: Database
) -> None:
    invitation = await invite()
    for id_ in (partnership.partnership_id, invitation["id"]):
        here = f"/v1/partnerships/{id_}"
        answers = [await client.get(here, headers=stranger)]
        answers += [await client.post(f"{here}/{verb}", headers=stranger) for verb in ("accept", "decline", "end")]
        assert {(answer.status_code, slug_of(answer)) for answer in answers} == {(404, "partnership-not-found")}
    for ref in (partnership.slug, str(partnership.organization_id), "movement", "nobody"):
        answer = await client.get(f"/v1/partners/{ref}/partnerships", headers=stranger)
        assert (answer.status_code, slug_of(answer)) == (404, "organization-not-found")
    own = await client.get("/v1/partners/strangers/partnerships", headers=stranger)
    assert own.json() == {"items": [], "next_cursor": None}
    assert await states(database) == ["active", "invited"]


async def test_the_movement_does_not_answer_in_a_partners_name(
    client: httpx.AsyncClient, invite: Invite, owner: Headers, campaigner: Headers, database: Database
) -> None:
    here = f"/v1/partnerships/{(await invite())['id']}"
    for headers in (owner, campaigner):
        for verb in ("accept", "decline"):
            assert (await client.post(f"{here}/{verb}", headers=headers)).status_code == 403
    assert await states(database) == ["active", "invited"]


async def test_both_lists_show_the_newest_first_page_by_page(
    client: httpx.AsyncClient, invite: Invite, partner: Headers, analyst: Headers, at: str, partnership: Partner
) -> None:
    ids = [str(partnership.partnership_id)]
    for _ in range(3):
        invitation = await invite()
        ids.append(invitation["id"])
        await client.post(f"/v1/partnerships/{invitation['id']}/decline", headers=partner)
    for url, headers in ((at, analyst), (f"/v1/partners/{partnership.slug}/partnerships", partner)):
        first = (await client.get(url, params={"limit": 3}, headers=headers)).json()
        rest = (await client.get(url, params={"cursor": first["next_cursor"]}, headers=headers)).json()
        assert [item["id"] for item in first["items"] + rest["items"]] == ids[::-1]
        assert rest["next_cursor"] is None


WRONG: list[tuple[Json, str]] = [
    ({"organization": "movement"}, "not-a-partner"),
    ({"organization": "nobody-of-this-name"}, "not-a-partner"),
    ({"petitions": ["repeal-the-act", "elsewhere"]}, "petition-elsewhere"),
    ({"petitions": ["no-such-petition"]}, "petition-elsewhere"),
    ({"petitions": ["Ünderneath"]}, "petition-elsewhere"),
    ({"petitions": ["a\0b"]}, "invalid"),
    ({"consents": [{"organization": "nobody-of-this-name", "answer": "given"}]}, "unknown-organization"),
    ({"consents": [{"organization": "movement", "answer": "perhaps"}]}, "invalid"),
    ({"consents": [{"organization": "movement", "answer": a} for a in ("given", "asked")]}, "invalid"),
    ({"terms": " "}, "invalid"),
    ({"terms": None}, "invalid"),
    ({"default_country": "ZZ"}, "invalid"),
    ({"receives_signers": "yes"}, "invalid"),
    ({"state": "active"}, "invalid"),
]


@pytest.mark.parametrize(("more", "problem"), WRONG)
async def test_an_invitation_that_makes_no_sense_is_refused_and_changes_nothing(
    client: httpx.AsyncClient,
    campaigner: Headers,
    at: str,
    partnership: Partner,
    database: Database,
    more: Json,
    problem: str,
) -> None:
    await insert_petition(database, "elsewhere")
    body = {"organization": partnership.slug, "terms": TERMS} | more
    answer = await client.post(at, json=body, headers=campaigner)
    assert (answer.status_code, slug_of(answer)) == (422, problem)
    assert "nobody-of-this-name" not in answer.text
    assert await states(database) == ["active"]


async def test_who_has_not_answered_is_not_invited_again(
    client: httpx.AsyncClient, invite: Invite, campaigner: Headers, at: str, partnership: Partner, database: Database
) -> None:
    await invite()
    body = {"organization": partnership.slug, "terms": TERMS}
    answer = await client.post(at, json=body, headers=campaigner)
    assert (answer.status_code, slug_of(answer)) == (409, "invitation-open")
    assert await states(database) == ["active", "invited"]


async def test_of_two_invitations_at_once_one_is_made(
    client: httpx.AsyncClient, campaigner: Headers, at: str, partnership: Partner, database: Database
) -> None:
    body = {"organization": partnership.slug, "terms": TERMS}
    answers = await asyncio.gather(*(client.post(at, json=body, headers=campaigner) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert await states(database) == ["active", "invited"]


async def test_new_terms_replace_the_old_ones_without_a_gap(
    client: httpx.AsyncClient, invite: Invite, partner: Headers, partnership: Partner, database: Database
) -> None:
    counts: list[int] = []
    replaced = asyncio.Event()

    async def watch() -> None:
        while not replaced.is_set():
            counts.append(len(await ask(database, partnership)))

    watching = asyncio.create_task(watch())
    for number in range(5):
        invitation = await invite(terms=f"Version {number}")
        answer = await client.post(f"/v1/partnerships/{invitation['id']}/accept", headers=partner)
        assert answer.json()["state"] == "active"
    replaced.set()
    await watching
    assert set(counts) == {1}
    assert await states(database) == ["ended"] * 5 + ["active"]
    rows = await run(database, "SELECT ended_at, answered_at, ended_by, answered_by FROM partnerships ORDER BY id")
    for former, latter in pairwise(rows):
        assert (former.ended_at, former.ended_by) == (latter.answered_at, latter.answered_by)


@pytest.fixture
def calling(client: httpx.AsyncClient) -> Callable[[object, str, Headers], Callable[[], Awaitable[httpx.Response]]]:
    """What to do to a partnership, to be done later."""
    return lambda id_, verb, headers: lambda: client.post(f"/v1/partnerships/{id_}/{verb}", headers=headers)


async def test_accepting_twice_at_once_is_accepting_once(
    invite: Invite, calling: Any, partner: Headers, database: Database
) -> None:
    id_ = (await invite())["id"]
    answers = await one_after_the_other(database, HELD, *[calling(id_, "accept", partner)] * 3)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.text for answer in answers}) == 1
    assert await states(database) == ["ended", "active"]


async def test_the_former_terms_end_first_whatever_the_order_of_ids(
    client: httpx.AsyncClient, invite: Invite, partner: Headers, database: Database
) -> None:
    # As if it had been made by a clock that was ahead.
    await run(database, "UPDATE partnerships SET id = 'ffffffff-ffff-7fff-bfff-ffffffffffff'")
    id_ = (await invite())["id"]
    answer = await client.post(f"/v1/partnerships/{id_}/accept", headers=partner)
    assert (answer.status_code, answer.json()["state"]) == (200, "active")
    assert await states(database) == ["active", "ended"]


async def test_accepting_new_terms_while_the_old_ones_are_ended(
    invite: Invite, calling: Any, partner: Headers, campaigner: Headers, partnership: Partner, database: Database
) -> None:
    old = partnership.partnership_id
    for turn in (1, -1):
        new = (await invite())["id"]
        calls = [calling(new, "accept", partner), calling(old, "end", campaigner)][::turn]
        answers = await one_after_the_other(database, HELD, *calls)
        shown = {answer.json()["id"]: answer.json()["state"] for answer in answers}
        assert [answer.status_code for answer in answers] == [200, 200]
        assert shown == {str(old): "ended", str(new): "active"}
        old = new
    assert await states(database) == ["ended", "ended", "active"]


@pytest.mark.parametrize(("verb", "second"), [("end", 200), ("decline", 409)])
async def test_accepting_an_invitation_while_it_goes_away(
    invite: Invite, calling: Any, partner: Headers, database: Database, verb: str, second: int
) -> None:
    id_ = (await invite())["id"]
    answers = await one_after_the_other(database, HELD, calling(id_, verb, partner), calling(id_, "accept", partner))
    assert [answer.status_code for answer in answers] == [200, 409]
    assert (await states(database))[0] == "active"
    id_ = (await invite())["id"]
    answers = await one_after_the_other(database, HELD, calling(id_, "accept", partner), calling(id_, verb, partner))
    assert [answer.status_code for answer in answers] == [200, second]
    assert (await states(database))[-1] == ("ended" if second == 200 else "active")


async def test_everybody_does_everything_at_once(
    client: httpx.AsyncClient, at: str, campaigner: Headers, partner: Headers, partnership: Partner, database: Database
) -> None:
    body = {"organization": partnership.slug, "terms": TERMS}
    for _ in range(5):
        calls = [client.post(at, json=body, headers=campaigner) for _ in range(2)]
        rows = await run(database, "SELECT id FROM partnerships ORDER BY id DESC LIMIT 2")
        for (id_,) in rows:
            here = f"/v1/partnerships/{id_}"
            calls += [client.post(f"{here}/{verb}", headers=partner) for verb in ("accept", "decline", "end", "accept")]
        answers = await asyncio.gather(*calls)
        assert {answer.status_code for answer in answers} <= {200, 201, 409}
        standing = [state for state in await states(database) if state in {"active", "invited"}]
        assert len(standing) == len(set(standing))


async def ask(database: Database, partnership: Partner) -> list[Any]:
    """The partner's terms now."""
    async with database.transaction() as session:
        return list(await terms_of(session, partnership.organization_id))


async def feeds(database: Database, organization_id: UUID, *refs: str) -> set[str]:
    """Which of these petitions the organization may feed."""
    async with database.transaction() as session:
        found = await covered_petitions(session, organization_id, refs)
    return set(found)


async def test_a_partner_feeds_the_public_petitions_of_its_campaign_and_no_others(
    partnership: Partner, database: Database
) -> None:
    campaign_id, organization_id = partnership.campaign_id, partnership.organization_id
    later = datetime.now(UTC) + timedelta(days=1)
    await insert_further_petition(database, campaign_id, "drafted", state="draft")
    await insert_further_petition(database, campaign_id, "to-open", state="draft", opens_at=later)
    await insert_further_petition(database, campaign_id, "opened-by-itself", state="draft", opens_at=now())
    await insert_further_petition(database, campaign_id, "closed", state="closed")
    await insert_further_petition(database, campaign_id, "rejected", moderation="rejected")
    elsewhere = await insert_petition(database, "elsewhere")
    public = {"repeal-the-act", str(partnership.petition_id), "opened-by-itself", "closed"}
    hidden = ("drafted", "to-open", "rejected", "elsewhere", str(elsewhere), "nothing", "", "a\0b", "\ud800", "ü")
    assert await feeds(database, organization_id, *public, *hidden) == public
    assert await feeds(database, organization_id, str(partnership.petition_id).upper()) != set()
    async with database.transaction() as session:
        fed = (await covered_petitions(session, organization_id, ["repeal-the-act"]))["repeal-the-act"]
    assert (fed.id, fed.campaign_id, fed.confirmation) == (partnership.petition_id, campaign_id, "none")
    assert fed.terms.partnership_id == partnership.partnership_id


async def test_terms_may_name_some_petitions_or_cover_all_those_to_come(
    client: httpx.AsyncClient, invite: Invite, partner: Headers, partnership: Partner, database: Database
) -> None:
    second = await insert_further_petition(database, partnership.campaign_id, "second")
    refs = [partnership.petition, str(second), str(second), "second"]
    invitation = await invite(petitions=refs)
    assert set(invitation["petition_ids"]) == {str(partnership.petition_id), str(second)}
    assert len(invitation["petition_ids"]) == 2
    everything = ("repeal-the-act", "second", "third")
    assert await feeds(database, partnership.organization_id, *everything) == {"repeal-the-act", "second"}
    await client.post(f"/v1/partnerships/{invitation['id']}/accept", headers=partner)
    await insert_further_petition(database, partnership.campaign_id, "third")
    assert await feeds(database, partnership.organization_id, *everything) == {"repeal-the-act", "second"}
    fewer = await invite(petitions=["second"])
    await client.post(f"/v1/partnerships/{fewer['id']}/accept", headers=partner)
    assert await feeds(database, partnership.organization_id, *everything) == {"second"}
    none = await invite(petitions=[])
    assert none["petition_ids"] == []
    await client.post(f"/v1/partnerships/{none['id']}/accept", headers=partner)
    assert await feeds(database, partnership.organization_id, *everything) == set()
    whole = await invite()
    assert whole["petition_ids"] is None
    await client.post(f"/v1/partnerships/{whole['id']}/accept", headers=partner)
    assert await feeds(database, partnership.organization_id, *everything) == set(everything)


async def test_only_active_terms_count(
    client: httpx.AsyncClient, campaigner: Headers, partnership: Partner, database: Database
) -> None:
    other, _ = await insert_partner(database, "others")
    for state in ("invited", "declined", "ended"):
        await insert_partnership(database, other, partnership.campaign_id, state=state)
    assert await feeds(database, other, "repeal-the-act") == set()
    assert await feeds(database, partnership.organization_id, "repeal-the-act") == {"repeal-the-act"}
    await client.post(f"/v1/partnerships/{partnership.partnership_id}/end", headers=campaigner)
    assert await feeds(database, partnership.organization_id, "repeal-the-act") == set()
    assert await ask(database, partnership) == []


async def test_terms_say_what_must_be_brought_and_who_is_received(partnership: Partner, database: Database) -> None:
    petition_id = await insert_petition(database, "elsewhere")
    rows = await run(database, "SELECT campaign_id FROM petitions WHERE id = :id", id=petition_id)
    campaign_id = rows[0][0]
    consents = [{"organization": "movement", "answer": "asked"}]
    more: Json = {"consents": consents, "receives_signers": False, "default_country": "KE"}
    await insert_partnership(database, partnership.organization_id, campaign_id, petition_ids=[petition_id], **more)
    first, second = await ask(database, partnership)
    assert (first.consents, first.receives_signers, first.default_country) == ({}, True, None)
    assert (second.consents, second.receives_signers, second.default_country) == ({"movement": "asked"}, False, "KE")
    assert second.covers(petition_id, campaign_id)
    assert not second.covers(petition_id, partnership.campaign_id)
    assert not second.covers(partnership.petition_id, campaign_id)
    async with database.transaction() as session:
        assert await receiving_campaigns(session, partnership.organization_id) == {partnership.campaign_id}


async def test_a_multitude_of_petitions_is_found_in_two_statements(partnership: Partner, database: Database) -> None:
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    refs = [*(f"petition-{number}" for number in range(40_000)), "repeal-the-act"]
    assert await feeds(database, partnership.organization_id, *refs) == {"repeal-the-act"}
    event.remove(engine, "before_cursor_execute", note)
    assert len([statement for statement in asked if "FROM" in statement]) == 2
