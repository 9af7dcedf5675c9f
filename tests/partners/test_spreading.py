"""Who is told what: each endpoint what it asked for, each organization what is its own, each once."""

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.outbox import NewMessage
from app.kit.database.session import Database
from app.partners.outbound.message_types import fan_out
from app.people.personal_data.data_rights import erased
from app.signatures.background.consents import ConsentRecorder
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.mailed_links import link_of, prove
from tests.support.outbox import (
    about,
    erasure,
    fan_out_all,
    insert_mute_endpoint,
    movement_id,
    pending,
    pending_types,
    publish_all,
    sign_with_consent,
    signer_of,
    spread,
    withdrawal,
)
from tests.support.partners import (
    PETITION,
    SLUG,
    Partner,
    campaign_of,
    insert_further_petition,
    insert_partner,
    insert_partnership,
)
from tests.support.settings import RING
from tests.support.types import Json

PETITIONS = ("petition.published", "petition.milestone_reached", "petition.closed")


async def test_an_endpoint_gets_the_types_it_has_chosen_and_no_others(database: Database, partnership: Partner) -> None:
    chosen = {type_: await insert_mute_endpoint(database, partnership.organization_id, type_) for type_ in PETITIONS}
    none = await insert_mute_endpoint(database, partnership.organization_id, "person.erased")
    await publish_all(database, *(about(type_, partnership.petition_id) for type_ in PETITIONS))
    await fan_out_all(database)
    assert {type_: await pending_types(database, id_) for type_, id_ in chosen.items()} == {t: [t] for t in PETITIONS}
    assert await pending_types(database, none) == []
    assert await run(database, "SELECT 1 FROM outbox_messages") == []


async def test_a_paused_endpoint_is_kept_its_messages_and_a_disabled_one_gets_none(
    database: Database, partnership: Partner
) -> None:
    paused = await insert_mute_endpoint(database, partnership.organization_id, state="paused")
    disabled = await insert_mute_endpoint(database, partnership.organization_id, state="disabled")
    await publish_all(database, about("petition.closed", partnership.petition_id), erasure(partnership.organization_id))
    await fan_out_all(database)
    assert await pending_types(database, paused) == ["petition.closed", "person.erased"]
    assert await pending_types(database, disabled) == []


async def test_what_nobody_wants_to_hear_simply_goes(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await sign_with_consent(client, 1)
    await publish_all(database, about("petition.closed", partnership.petition_id), erasure(partnership.organization_id))
    await sweep(database)
    assert await run(database, "SELECT 1 FROM outbox_messages") == []
    assert await pending(database) == []


@pytest.mark.parametrize("state", ["invited", "declined", "ended"])
async def test_a_partner_hears_nothing_outside_its_partnership(
    database: Database, partnership: Partner, state: str
) -> None:
    other = await insert_petition(database, "another")
    narrow_id, _ = await insert_partner(database, "narrow")
    former_id, _ = await insert_partner(database, "former")
    second = await insert_further_petition(database, partnership.campaign_id, "second")
    await insert_partnership(database, narrow_id, partnership.campaign_id, petition_ids=[second])
    await insert_partnership(database, former_id, partnership.campaign_id, state=state)
    everyone = {
        name: await insert_mute_endpoint(database, id_)
        for name, id_ in {
            "movement": await movement_id(database),
            "partner": partnership.organization_id,
            "narrow": narrow_id,
            "former": former_id,
        }.items()
    }
    await publish_all(database, *(about("petition.published", id_) for id_ in (partnership.petition_id, second, other)))
    await fan_out_all(database)
    heard = {
        name: [message.content["petition_id"] for message in await pending(database, id_)]
        for name, id_ in everyone.items()
    }
    first_, second_, other_ = map(str, (partnership.petition_id, second, other))
    assert heard == {
        "movement": [first_, second_, other_],
        "partner": [first_, second_],
        "narrow": [second_],
        "former": [],
    }


async def test_what_is_for_one_organization_is_told_to_no_other(database: Database, partnership: Partner) -> None:
    other_id, _ = await insert_partner(database, "others")
    await insert_partnership(database, other_id, partnership.campaign_id)
    mine, others = (
        await insert_mute_endpoint(database, partnership.organization_id),
        await insert_mute_endpoint(database, other_id),
    )
    movements = await insert_mute_endpoint(database, await movement_id(database))
    await publish_all(
        database,
        erasure(partnership.organization_id),
        withdrawal(partnership.petition_id, partnership.organization_id, brought=True),
    )
    await fan_out_all(database)
    assert await pending_types(database, mine) == ["person.erased", "signature.withdrawn"]
    assert await pending_types(database, others) == await pending_types(database, movements) == []


@pytest.mark.parametrize("type_", ["signature.withdrawn", "person.erased", "signature.counted", "event.held"])
async def test_what_should_name_an_organization_and_does_not_is_told_to_no_partner(
    database: Database, partnership: Partner, type_: str
) -> None:
    await insert_mute_endpoint(database, partnership.organization_id, type_)
    content = withdrawal(partnership.petition_id, partnership.organization_id, brought=True).content
    await publish_all(database, NewMessage(type_, {**content, "signature_ids": [], "at": now().isoformat()}))
    await fan_out_all(database)
    assert await pending(database) == []


@pytest.mark.parametrize(
    ("terms", "brought", "heard"),
    [
        ({"receives_signers": True}, False, True),
        ({"receives_signers": True, "state": "ended"}, False, True),
        ({"receives_signers": True, "state": "invited"}, False, False),
        ({"receives_signers": False}, False, False),
        ({"receives_signers": True, "petition_ids": []}, False, False),
        ({"receives_signers": True, "petition_ids": []}, True, True),
        ({"receives_signers": False}, True, True),
    ],
)
async def test_a_withdrawal_is_told_to_who_may_have_received_the_signature_or_brought_it(
    database: Database, terms: Json, brought: bool, heard: bool
) -> None:
    petition_id = await insert_petition(database, "repeal-the-act")
    partner_id, _ = await insert_partner(database, "partner")
    await insert_partnership(database, partner_id, await campaign_of(database, petition_id), **terms)
    listening = await insert_mute_endpoint(database, partner_id)
    await publish_all(database, withdrawal(petition_id, partner_id, brought=brought))
    await fan_out_all(database)
    assert await pending_types(database, listening) == (["signature.withdrawn"] if heard else [])


async def test_an_erasure_is_told_to_a_partner_whose_partnership_has_ended(
    database: Database, partnership: Partner
) -> None:
    await run(database, "UPDATE partnerships SET state = 'ended'")
    listening = await insert_mute_endpoint(database, partnership.organization_id)
    await publish_all(database, erasure(partnership.organization_id))
    await fan_out_all(database)
    assert await pending_types(database, listening) == ["person.erased"]


async def test_an_erasure_that_two_rooms_announce_is_told_in_one_message(
    database: Database, partnership: Partner
) -> None:
    listening = await insert_mute_endpoint(database, partnership.organization_id)
    one, two = uuid7(), uuid7()
    to = partnership.organization_id
    await publish_all(database, erasure(to, one), erasure(to, one, two), erasure(to))
    await fan_out_all(database)
    (message,) = await pending(database, listening)
    assert message.content["signature_ids"] == [str(one), str(two)]


async def test_two_people_who_are_erased_are_two_messages(database: Database, partnership: Partner) -> None:
    listening = await insert_mute_endpoint(database, partnership.organization_id)
    await publish_all(database, *(erased(RING, partnership.organization_id, signer_of(number)) for number in (1, 2)))
    await fan_out_all(database)
    assert len({message.content["person_id"] for message in await pending(database, listening)}) == 2


async def test_consents_are_told_by_spans_of_at_most_five_hundred(
    database: Database, partnership: Partner, monkeypatch: pytest.MonkeyPatch, client: httpx.AsyncClient
) -> None:
    monkeypatch.setattr(fan_out, "MOST_TOLD", 3)
    listening = [await insert_mute_endpoint(database, partnership.organization_id) for _ in range(2)]
    for number in range(7):
        await sign_with_consent(client, number)
        await sign_with_consent(client, number + 100, to="movement")
    await sweep(database)
    numbers = [
        row[0]
        for row in await run(
            database,
            "SELECT number FROM signer_feed_entries WHERE organization_id = :id ORDER BY number",
            id=partnership.organization_id,
        )
    ]
    assert len(numbers) == 7
    spans = [{"from": part[0], "to": part[-1]} for part in (numbers[:3], numbers[3:6], numbers[6:])]
    for endpoint_id in listening:
        messages = await pending(database, endpoint_id)
        assert [message.content for message in messages] == spans
        assert {message.type for message in messages} == {"signature.counted"}


@pytest.mark.parametrize(
    "terms", [{"receives_signers": False}, {"petition_ids": []}, {"state": "invited"}, {"state": "ended"}]
)
async def test_consents_are_told_to_no_partner_that_may_not_receive_signers(
    client: httpx.AsyncClient, database: Database, terms: Json
) -> None:
    petition_id = await insert_petition(database, "repeal-the-act")
    partner_id, _ = await insert_partner(database, "sisters-of-kampala")
    await insert_partnership(database, partner_id, await campaign_of(database, petition_id), **terms)
    await insert_mute_endpoint(database, partner_id)
    await sign_with_consent(client, 1)
    await sweep(database)
    assert await pending(database) == []
    assert len(await run(database, "SELECT 1 FROM signer_feed_entries")) == 1


async def test_the_movement_is_told_of_those_who_consented_to_it(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    listening = await insert_mute_endpoint(database, await movement_id(database))
    await sign_with_consent(client, 1, to="movement")
    await sweep(database)
    assert await pending_types(database, listening) == ["signature.counted"]


async def test_a_signature_that_is_confirmed_by_mail_is_told_once_it_is_confirmed(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await run(database, "UPDATE petitions SET confirmation = 'email'")
    listening = await insert_mute_endpoint(database, partnership.organization_id)
    body = person(1, consents=[{"organization": SLUG, "given": True}])
    signed = (await client.post(f"/v1/petitions/{PETITION}/signatures", json=body)).json()
    await sweep(database)
    assert await pending(database) == []
    await prove(client, await link_of(client, signed, str(body["email"])), [0])
    await sweep(database)
    assert await pending_types(database, listening) == ["signature.counted"]


async def test_messages_are_made_in_the_order_in_which_they_were_announced(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    listening = await insert_mute_endpoint(database, partnership.organization_id)
    to = partnership.organization_id
    await publish_all(database, about("petition.published", partnership.petition_id), erasure(to))
    await sign_with_consent(client, 1)
    await sweep(database)
    await publish_all(database, withdrawal(partnership.petition_id, to, brought=True))
    await publish_all(database, about("petition.closed", partnership.petition_id))
    await fan_out_all(database)
    assert await pending_types(database, listening) == [
        "petition.published",
        "person.erased",
        "signature.counted",
        "signature.withdrawn",
        "petition.closed",
    ]


async def test_a_round_that_fails_takes_nothing_out(
    database: Database, partnership: Partner, monkeypatch: pytest.MonkeyPatch, client: httpx.AsyncClient
) -> None:
    await insert_mute_endpoint(database, partnership.organization_id)
    await sign_with_consent(client, 1)
    await publish_all(database, about("petition.closed", partnership.petition_id))

    async def fail(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as failing:
        failing.setattr(fan_out, "_write", fail)
        await sweep(database)
    assert len(await run(database, "SELECT 1 FROM outbox_messages")) == 2
    assert await run(database, "SELECT 1 FROM signer_feed_entries") == []
    await sweep(database)
    assert len(await pending(database)) == 2


async def test_a_batch_leaves_the_rest_to_the_next(
    database: Database, partnership: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = await insert_mute_endpoint(database, partnership.organization_id)
    monkeypatch.setattr(fan_out, "BATCH", 2)
    await publish_all(database, *(about("petition.published", partnership.petition_id) for _ in range(5)))
    taken = []
    for _ in range(4):
        async with database.transaction() as session:
            taken.append(len(await spread(session)))
    assert taken == [2, 2, 1, 0]
    assert len(await pending(database, listening)) == 5


async def test_a_consent_that_is_being_erased_holds_nobody_up_and_is_not_told_of_when_it_is_gone(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    listening = await insert_mute_endpoint(database, partnership.organization_id)
    await sign_with_consent(client, 1)
    await sign_with_consent(client, 2)
    async with database.transaction() as session:
        await ConsentRecorder(RING)(session)
    connection = await database.pin()
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM consents WHERE signer = $1", signer_of(1))
            async with database.transaction() as session:
                assert len(await spread(session)) == 1
        await fan_out_all(database)
    finally:
        await connection.close()
    assert len(await run(database, "SELECT 1 FROM signer_feed_entries")) == 1
    assert len(await pending(database, listening)) == 1
    assert await run(database, "SELECT 1 FROM outbox_messages") == []


async def test_an_erasure_that_is_taken_back_leaves_the_consent_to_be_told_of(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await insert_mute_endpoint(database, partnership.organization_id)
    await sign_with_consent(client, 1)
    async with database.transaction() as session:
        await ConsentRecorder(RING)(session)
    connection = await database.pin()
    try:
        erasing = connection.transaction()
        await erasing.start()
        await connection.execute("DELETE FROM consents")
        async with database.transaction() as session:
            assert await spread(session) == []
        await erasing.rollback()
    finally:
        await connection.close()
    await fan_out_all(database)
    assert len(await pending(database)) == 1
