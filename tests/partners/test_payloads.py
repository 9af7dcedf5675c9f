"""What a message says is what is true when it is sent, and names nobody to whom they did not consent."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import httpx
import pytest
from sqlalchemy import event

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.outbox import NewMessage
from app.kit.database.session import Database
from app.partners.outbound.feed.feed import KeyMissingError
from app.partners.outbound.message_types.bodies import bodies_of
from app.people.pseudonyms import person_id
from app.signatures.engine.signings import Signing
from app.signatures.schemas import ImportedSigning
from app.signatures.services import SigningServices
from app.signatures.signing.prepare import prepare
from tests.support.application import sweep
from tests.support.attempts import attempt_id, told_id
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.mailed_links import prove, sign_and_prove, token_of
from tests.support.outbox import (
    TYPES,
    fan_out_all,
    insert_mute_endpoint,
    movement_id,
    pending,
    pending_bodies,
    pending_data,
    publish_all,
    sign_with_consent,
    signer_of,
)
from tests.support.partners import (
    SLUG,
    Partner,
    campaign_of,
    insert_further_petition,
    insert_partner,
    insert_partnership,
)
from tests.support.settings import RING
from tests.support.types import Headers, Json

COUNTED, WITHDRAWN, ERASED = "signature.counted", "signature.withdrawn", "person.erased"


@pytest.fixture
async def listening(database: Database, partnership: Partner) -> Any:
    """An endpoint of the partner that wants everything."""
    return await insert_mute_endpoint(database, partnership.organization_id)


async def signers(database: Database, endpoint_id: Any) -> list[Json]:
    """Everybody who would be named now, in the order in which they would be told."""
    return [signer for data in await pending_data(database, endpoint_id, COUNTED) for signer in data["signatures"]]


def test_the_body_of_every_type_says_which_type_it_is() -> None:
    assert {one.name for one in TYPES} == {*TYPES.subscribable, "webhook.test"}
    for one in TYPES:
        assert get_args(one.payload.model_fields["type"].annotation) == (one.name,)


async def test_a_petition_is_told_as_it_is_now(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, partnership: Partner, listening: Any
) -> None:
    at = f"/v1/petitions/{partnership.petition}"
    assert (await client.post(f"{at}/close", headers=campaigner)).status_code == 200
    assert (await client.post(f"{at}/reopen", headers=campaigner)).status_code == 200
    await client.patch(at, json={"title": "Repeal it now", "signature_goal": 500}, headers=campaigner)
    await fan_out_all(database)
    closed, published = await pending_bodies(database, listening)
    assert closed is not None
    assert published is not None
    view = (await client.get(at)).json()
    campaign = (await client.get(f"/v1/campaigns/{partnership.campaign}")).json()
    assert (
        closed["data"]["petition"]
        == published["data"]["petition"]
        == {
            **{
                name: view[name] for name in ("id", "slug", "title", "state", "signature_goal", "opens_at", "closes_at")
            },
            "links": view["links"],
            "campaign": {name: campaign[name] for name in ("id", "slug", "title")},
        }
    )
    assert (view["title"], view["state"], view["signature_goal"]) == ("Repeal it now", "open", 500)
    assert closed["data"]["at"] < published["data"]["at"] <= published["timestamp"]
    assert [closed["type"], published["type"]] == ["petition.closed", "petition.published"]
    assert set(closed) == {"type", "timestamp", "data"}
    assert datetime.fromisoformat(closed["timestamp"]).tzinfo == UTC


async def test_a_milestone_says_which_and_how_many_had_signed(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    await run(database, "UPDATE petitions SET signature_goal = 2")
    for number in range(3):
        await sign_with_consent(client, number, to=None)
    await sweep(database)
    (data,) = await pending_data(database, listening, "petition.milestone_reached")
    assert (data["threshold_count"], data["signature_count"]) == (2, 3)
    assert data["petition"]["signature_goal"] == 100


@pytest.mark.parametrize(
    "change", ["moderation = 'removed'", "moderation = 'pending'", "state = 'draft', opens_at = NULL"]
)
async def test_a_petition_that_is_not_public_any_more_is_not_told_of(
    database: Database, partnership: Partner, listening: Any, change: str
) -> None:
    await publish_all(
        database, NewMessage("petition.closed", {"petition_id": str(partnership.petition_id), "at": None})
    )
    await fan_out_all(database)
    await run(database, f"UPDATE petitions SET {change}")
    assert await pending_bodies(database, listening) == [None]


async def test_a_partner_whose_partnership_has_ended_meanwhile_is_told_nothing_and_the_movement_is(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    movements = await insert_mute_endpoint(database, await movement_id(database))
    await publish_all(
        database, NewMessage("petition.closed", {"petition_id": str(partnership.petition_id), "at": None})
    )
    await sign_with_consent(client, 1)
    await sign_with_consent(client, 2, to="movement")
    await sweep(database)
    await run(database, "UPDATE partnerships SET state = 'ended'")
    assert await pending_bodies(database, listening) == [None, None]
    assert [body and body["type"] for body in await pending_bodies(database, movements)] == ["petition.closed", COUNTED]


async def test_a_signature_is_told_with_all_that_was_consented_to(
    client: httpx.AsyncClient, campaigner: Headers, database: Database, partnership: Partner, listening: Any
) -> None:
    words = {"purpose": "news", "locale": "en", "body": "May we write to you?"}
    await client.post(f"/v1/organizations/{SLUG}/consent-texts", json=words, headers=campaigner)
    body = person(1, "UG", region="Kampala", postal_code="256", locale="sw", comment="For my sister.")
    consents = [{"organization": SLUG, "given": True, "text_version": "en-1", "page": "example.org/sign"}]
    signed = await sign_and_prove(client, partnership.petition, body | {"consents": consents})
    await sweep(database)
    (signer,) = await signers(database, listening)
    (row,) = await run(database, "SELECT signed_at FROM signatures")
    signed_at = row[0].isoformat().replace("+00:00", "Z")
    assert signer == {
        "signature_id": told_id(partnership.organization_id, attempt_id(partnership.petition_id, signed)),
        "person_id": person_id(RING, partnership.organization_id, signer_of(1)),
        "petition_id": str(partnership.petition_id),
        "petition": partnership.petition,
        **{name: body[name] for name in ("given_name", "family_name", "email", "country", "region", "postal_code")},
        "locale": "sw",
        "signed_at": signed_at,
        "consent": {"text_version": "en-1", "decided_at": signed_at, "proven": True},
        "reference": None,
    }


async def test_each_organization_is_told_only_of_those_who_consented_to_it(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    other_id, _ = await insert_partner(database, "others")
    await insert_partnership(database, other_id, partnership.campaign_id)
    others = await insert_mute_endpoint(database, other_id)
    both: list[Json] = [{"organization": SLUG, "given": True}, {"organization": "others", "given": True}]
    refusing = [{"organization": SLUG, "given": False}, {"organization": "others", "given": True}]
    for number, consents in enumerate((both, refusing, [])):
        await sign_with_consent(client, number, consents=consents)
    await sweep(database)
    mine, theirs = await signers(database, listening), await signers(database, others)
    assert [signer["given_name"] for signer in mine] == ["Given0"]
    assert [signer["given_name"] for signer in theirs] == ["Given0", "Given1"]
    assert mine[0]["signature_id"] != theirs[0]["signature_id"]
    assert mine[0]["person_id"] != theirs[0]["person_id"]


async def test_a_partner_is_told_of_no_signer_of_a_campaign_it_does_not_receive(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    fed, foreign = await insert_petition(database, "fed"), await insert_petition(database, "foreign")
    await insert_partnership(
        database, partnership.organization_id, await campaign_of(database, fed), receives_signers=False
    )
    second = await insert_further_petition(database, partnership.campaign_id, "second")
    for number, petition in enumerate(("fed", "second", "foreign", partnership.petition)):
        await sign_with_consent(client, number, petition=petition)
    await sweep(database)
    told = {signer["petition_id"] for signer in await signers(database, listening)}
    assert told == {str(second), str(partnership.petition_id)}
    assert str(foreign) not in told


async def test_whoever_takes_the_consent_back_between_queueing_and_sending_is_not_named(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    for number in range(3):
        await sign_with_consent(client, number)
    await sweep(database)
    assert len(await signers(database, listening)) == 3
    await run(
        database,
        "INSERT INTO consents (id, signer, organization_id, purpose, given, proven, decided_at, created_at)"
        " VALUES (:id, :signer, :to, 'news', false, true, now(), now())",
        id=uuid7(),
        signer=signer_of(1),
        to=partnership.organization_id,
    )
    assert [signer["given_name"] for signer in await signers(database, listening)] == ["Given0", "Given2"]


@pytest.mark.parametrize("change", ["'pending'", "'invalidated', state_before = 'confirmed'"])
async def test_a_signature_that_does_not_count_now_is_not_told_of(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any, change: str
) -> None:
    await sign_with_consent(client, 1)
    await sweep(database)
    await run(database, f"UPDATE signatures SET state = {change}")
    assert await pending_bodies(database, listening) == [None]


async def test_of_whoever_withdraws_nothing_is_told_but_that(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    signed = await sign_with_consent(client, 1)
    await sweep(database)
    await client.post(signed["links"]["withdraw"], json={"receipt": signed["receipt"]})
    await sweep(database)
    counted, withdrawn = await pending_bodies(database, listening)
    assert counted is None
    assert withdrawn is not None
    assert withdrawn["data"] == {
        "signature_id": told_id(partnership.organization_id, attempt_id(partnership.petition_id, signed)),
        "person_id": person_id(RING, partnership.organization_id, signer_of(1)),
        "petition_id": str(partnership.petition_id),
        "petition": partnership.petition,
    }


@pytest.mark.parametrize("choice", ["keep", "withdraw"])
async def test_of_whoever_is_erased_nothing_is_left_to_tell_but_that(
    client: httpx.AsyncClient, data_officer: Headers, database: Database, partnership: Partner, listening: Any,
    choice: str,
) -> None:  # fmt: skip
    await sign_with_consent(client, 1)
    await sign_with_consent(client, 2)
    await sweep(database)
    before, body = now(), {"email": person(1)["email"], "signatures": choice}
    assert (await client.post("/v1/erasures", json=body, headers=data_officer)).status_code == 200
    await sweep(database)
    assert [signer["given_name"] for signer in await signers(database, listening)] == ["Given2"]
    (data,) = await pending_data(database, listening, ERASED)
    assert before < datetime.fromisoformat(data.pop("at")) < now()
    assert data == {"person_id": person_id(RING, partnership.organization_id, signer_of(1)), "signature_ids": []}
    body["email"] = person(2)["email"]
    assert (await client.post("/v1/erasures", json=body, headers=data_officer)).status_code == 200
    counted, *_ = await pending_bodies(database, listening)
    assert counted is None


async def test_who_signs_again_after_withdrawing_is_told_of_by_the_new_signature(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    first = await sign_with_consent(client, 1)
    await sweep(database)
    await client.post(first["links"]["withdraw"], json={"receipt": first["receipt"]})
    second = await sign_with_consent(client, 1)
    await sweep(database)
    former, latter = [
        told_id(partnership.organization_id, attempt_id(partnership.petition_id, one)) for one in (first, second)
    ]
    assert {signer["signature_id"] for signer in await signers(database, listening)} == {latter}
    assert [data["signature_id"] for data in await pending_data(database, listening, WITHDRAWN)] == [former]
    assert [message.type for message in await pending(database)] == [COUNTED, WITHDRAWN, COUNTED]


async def test_who_consented_twice_with_one_signature_is_named_once_in_a_message(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    first = await sign_with_consent(client, 1)
    await sweep(database)
    await client.post(first["links"]["withdraw"], json={"receipt": first["receipt"]})
    await sign_with_consent(client, 2)
    await sign_with_consent(client, 1)
    await sweep(database)
    await run(database, "DELETE FROM webhook_messages")
    await run(
        database,
        "INSERT INTO webhook_messages"
        " (id, endpoint_id, type, ordered, content, state, due_at, retried_until, attempt_count, created_at)"
        " SELECT :id, :to, 'signature.counted', true, jsonb_build_object('from', min(number), 'to', max(number)),"
        " 'due', now(), now(), 0, now() FROM signer_feed_entries",
        id=uuid7(), to=listening,
    )  # fmt: skip
    assert [signer["given_name"] for signer in await signers(database, listening)] == ["Given2", "Given1"]


async def test_others_are_told_of_who_was_brought_once_they_have_proven_it_and_never_the_reference(
    served: Any, database: Database, partnership: Partner, listening: Any
) -> None:
    other_id, _ = await insert_partner(database, "others")
    await insert_partnership(database, other_id, partnership.campaign_id)
    others = await insert_mute_endpoint(database, other_id)
    consents = [{"organization": slug, "given": True} for slug in (SLUG, "others")]
    body = ImportedSigning.model_validate(person(1, consents=consents))
    brought: Signing = prepare(
        RING, partnership.petition_id, body, now(), partner_id=partnership.organization_id, reference="crm:4711"
    )
    await served.api.state.services.of(SigningServices).engine.bulk.submit([brought])
    await sweep(database)
    (told,) = await signers(database, listening)
    assert (told["reference"], told["consent"]["proven"]) == ("crm:4711", False)
    # Nobody vouches for a consent to somebody else.
    assert await signers(database, others) == []
    await prove(served.client, token_of(partnership.petition_id, body.email, brought.id), [0, 1])
    await sweep(database)
    told = [(one["reference"], one["consent"]["proven"]) for one in await signers(database, others)]
    assert told == [(None, True)]
    again = {(one["reference"], one["consent"]["proven"]) for one in await signers(database, listening)}
    assert again == {("crm:4711", True)}


async def test_what_its_key_does_not_open_is_left_out(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    await sign_with_consent(client, 1)
    second = await sign_with_consent(client, 2)
    await sweep(database)
    id_, broken = attempt_id(partnership.petition_id, second), RING.current_id + b"x" * 60
    await run(database, "UPDATE signatures SET sealed = :sealed WHERE id = :id", sealed=broken, id=id_)
    assert [signer["given_name"] for signer in await signers(database, listening)] == ["Given1"]


async def test_what_is_under_a_key_that_is_missing_is_not_passed_over(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    await sign_with_consent(client, 1)
    await sweep(database)
    (kept,) = await run(database, "SELECT sealed FROM signatures")
    await run(database, "UPDATE signatures SET sealed = :sealed", sealed=b"xx" + kept[0][2:])
    with pytest.raises(KeyMissingError):
        await signers(database, listening)
    await run(database, "UPDATE signatures SET sealed = :sealed", sealed=kept[0])
    assert [signer["given_name"] for signer in await signers(database, listening)] == ["Given1"]


async def test_of_a_petition_that_is_taken_down_partners_are_told_no_signers(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    movements = await insert_mute_endpoint(database, await movement_id(database))
    await sign_with_consent(client, 1)
    await sign_with_consent(client, 2, to="movement")
    await sweep(database)
    await run(database, "UPDATE petitions SET moderation = 'removed'")
    assert await pending_bodies(database, listening) == [None]
    assert [signer["given_name"] for signer in await signers(database, movements)] == ["Given2"]


async def test_of_petitions_that_the_terms_do_not_name_partners_are_told_no_signers(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    await insert_further_petition(database, partnership.campaign_id, "second")
    await sign_with_consent(client, 1)
    await sign_with_consent(client, 2, petition="second")
    await sweep(database)
    await run(database, "UPDATE partnerships SET petition_ids = ARRAY[CAST(:id AS uuid)]", id=partnership.petition_id)
    assert [signer["given_name"] for signer in await signers(database, listening)] == ["Given1"]


async def test_a_test_says_so_and_what_is_unknown_says_nothing(database: Database, partnership: Partner) -> None:
    await insert_mute_endpoint(database, partnership.organization_id)
    for type_ in ("webhook.test", "event.held"):
        await run(
            database,
            "INSERT INTO webhook_messages"
            " (id, endpoint_id, type, ordered, content, state, due_at, retried_until, attempt_count, created_at)"
            " SELECT :id, id, :type, false, '{}', 'due', now(), now(), 0, now() FROM webhook_endpoints",
            id=uuid7(),
            type=type_,
        )
    test, unknown = await pending_bodies(database)
    assert test is not None
    assert test["data"] == {"message": "This is a test."}
    assert unknown is None


async def test_many_messages_are_written_with_as_few_statements_as_one(
    client: httpx.AsyncClient, database: Database, partnership: Partner, listening: Any
) -> None:
    for type_ in ("petition.published", "petition.closed"):
        about = {"petition_id": str(partnership.petition_id), "at": None}
        await publish_all(database, *(NewMessage(type_, about) for _ in range(10)))
    await fan_out_all(database)
    messages = await pending(database, listening)
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        async with database.transaction() as session:
            written = await bodies_of(session, RING, TYPES, messages)
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert all(written)
    assert len(written) == 20
    assert len(asked) == 2


async def test_what_waits_to_be_told_names_nobody(
    client: httpx.AsyncClient, data_officer: Headers, database: Database, partnership: Partner, listening: Any
) -> None:
    for number in range(3):
        signed = await sign_with_consent(client, number)
        await sweep(database)
    await client.post(signed["links"]["withdraw"], json={"receipt": signed["receipt"]})
    body = {"email": person(1)["email"], "signatures": "keep"}
    await client.post("/v1/erasures", json=body, headers=data_officer)
    kept = await run(database, "SELECT o::text FROM outbox_messages o")
    await sweep(database)
    kept += await run(database, "SELECT m::text FROM webhook_messages m")
    kept += await run(database, "SELECT f::text FROM signer_feed_entries f")
    dumped = json.dumps([row[0] for row in kept]).lower()
    assert dumped.count("per_") >= 2
    for number in range(3):
        for secret in (*person(number).values(), signer_of(number).hex()):
            assert len(str(secret)) < 3 or str(secret).lower() not in dumped
