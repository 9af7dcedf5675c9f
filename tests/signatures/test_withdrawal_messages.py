"""Withdrawals are told afterwards, to those who may know the signature, and withdrawing itself tells nobody."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.organizations.models import Organization
from app.people.fields.emails import canonical
from app.people.pseudonyms import person_id
from app.settings import Settings
from app.signatures.background.consents import ConsentRecorder
from app.signatures.background.withdrawal_messages import WithdrawalMessages
from app.signatures.engine.signings import Outcome
from app.signatures.engine.transitions import Withdrawal
from app.signatures.me.service import SignatureStore
from app.signatures.schemas import ImportedSigning
from app.signatures.services import SigningServices
from app.signatures.signing.prepare import prepare
from app.signatures.signing.sealing import write_receipt
from tests.support.attempts import attempt_id, prove, signer_of, told_id
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.tallies import exact_counts
from tests.support.types import Json

Post = Callable[..., Awaitable[httpx.Response]]
Said = list[tuple[UUID, Json]]


@pytest.fixture
async def partners(database: Database) -> dict[str, UUID]:
    """The ids of some partners by slug."""
    async with database.transaction() as session:
        made = {slug: Organization(slug=slug, name=slug, kind="partner") for slug in ("sisters", "others", "bringers")}
        session.add_all(made.values())
    return {slug: partner.id for slug, partner in made.items()}


@pytest.fixture
def told(database: Database, settings: Settings) -> Callable[[], Awaitable[Said]]:
    """Sweep; what is announced of withdrawals since the last time."""

    async def sweep() -> Said:
        async with database.transaction() as session:
            await WithdrawalMessages(settings.key_ring)(session)
        rows = await run(
            database,
            "DELETE FROM outbox_messages WHERE type = 'signature.withdrawn' RETURNING organization_id, content",
        )
        return [(row.organization_id, row.content) for row in rows]

    return sweep


Bring = Callable[..., Awaitable[UUID]]


@pytest.fixture
def bring(served: object, petition_id: UUID, partners: dict[str, UUID]) -> Bring:
    """Bring the first person as this partner; the signature's id."""
    room: SigningServices = served.api.state.services.of(SigningServices)  # type: ignore[attr-defined]

    async def brought(by: str = "bringers") -> UUID:
        body = ImportedSigning.model_validate(person(1))
        signing = prepare(room.ring, petition_id, body, now(), partner_id=partners[by])
        assert (await room.engine.bulk.submit([signing]))[0] in {Outcome.COUNTED, Outcome.PENDING}
        return signing.id

    return brought


@pytest.fixture
def erase(served: object, database: Database, settings: Settings) -> Callable[[], Awaitable[Said]]:
    """Erase the first person; what is announced of that by this room."""

    async def erased() -> Said:
        await SignatureStore(served.api.state.services).erase(  # type: ignore[attr-defined]
            settings.key_ring.digest(canonical(person(1)["email"])), "withdraw"
        )
        query = "SELECT organization_id, content FROM outbox_messages WHERE type = 'person.erased' ORDER BY 1"
        return [(row.organization_id, row.content) for row in await run(database, query)]

    return erased


Proven = Callable[..., Awaitable[Json]]


@pytest.fixture
def proven(client: httpx.AsyncClient, sign: Post, petition_id: UUID) -> Proven:
    """Sign with this body and prove it, with all of its consents: its id, and the proven receipt."""

    async def sign_and_prove(body: Json) -> Json:
        id_ = attempt_id(petition_id, (await sign(body)).json())
        accepting = range(len(body.get("consents", [])))
        return {"id": id_, "receipt": await prove(client, petition_id, body, id_, accepting=accepting)}

    return sign_and_prove


def receipt_of(settings: Settings, petition_id: UUID, id_: UUID) -> str:
    signer = settings.key_ring.digest(canonical(person(1)["email"]))
    return write_receipt(settings.key_ring, petition_id, signer, id_)


async def enter_consents(database: Database, settings: Settings) -> None:
    async with database.transaction() as session:
        await ConsentRecorder(settings.key_ring)(session)


def consenting(number: int, **said: bool) -> Json:
    consents = [{"organization": slug, "given": given} for slug, given in said.items()]
    return person(number, consents=consents)


async def test_who_was_consented_to_is_told_and_nobody_else(
    proven: Proven, withdraw: Post, petition_id: UUID, database: Database, settings: Settings,
    partners: dict[str, UUID], told: Callable[[], Awaitable[Said]],
) -> None:  # fmt: skip
    signed = await proven(consenting(1, sisters=True, others=False))
    await proven(consenting(2, others=True))
    await enter_consents(database, settings)
    assert await told() == []
    await withdraw(signed["receipt"])
    signer = settings.key_ring.digest(canonical(person(1)["email"]))
    sisters = partners["sisters"]
    content = {
        "petition_id": str(petition_id),
        "signature_id": told_id(sisters, signed["id"]),
        "person_id": person_id(settings.key_ring, sisters, signer),
        "brought": False,
    }
    assert await told() == [(sisters, content)]
    assert await told() == []


async def test_withdrawing_itself_writes_no_message(
    proven: Proven, withdraw: Post, database: Database, settings: Settings, partners: dict[str, UUID]
) -> None:
    receipt = (await proven(consenting(1, sisters=True)))["receipt"]
    await enter_consents(database, settings)
    assert len(await run(database, "SELECT 1 FROM consents")) == 1
    before = await run(database, "SELECT number FROM outbox_messages")
    await withdraw(receipt)
    assert await run(database, "SELECT number FROM outbox_messages") == before


@pytest.mark.parametrize("is_proven", [True, False])
async def test_a_consent_that_was_never_entered_lets_nobody_know(
    sign: Post, proven: Proven, withdraw: Post, database: Database, settings: Settings, partners: dict[str, UUID],
    told: Callable[[], Awaitable[Said]], is_proven: bool,
) -> None:  # fmt: skip
    body = consenting(1, sisters=True)
    receipt = (await proven(body) if is_proven else (await sign(body)).json())["receipt"]
    await withdraw(receipt)
    await enter_consents(database, settings)
    assert await told() == []


async def test_a_consent_given_with_another_petition_lets_nobody_know_of_this_one(
    client: httpx.AsyncClient, sign: Post, proven: Proven, withdraw: Post, database: Database, settings: Settings,
    partners: dict[str, UUID], told: Callable[[], Awaitable[Said]],
) -> None:  # fmt: skip
    another, body = await insert_petition(database, "another"), consenting(1, sisters=True)
    signed = (await sign(body, "/v1/petitions/another")).json()
    await prove(client, another, body, signed, accepting=[0])
    receipt = (await proven(person(1)))["receipt"]
    await enter_consents(database, settings)
    assert len(await run(database, "SELECT 1 FROM consents")) == 1
    await withdraw(receipt)
    assert await told() == []


async def test_another_attempt_that_is_withdrawn_is_told_to_nobody(
    sign: Post, proven: Proven, withdraw: Post, database: Database, settings: Settings, partners: dict[str, UUID],
    told: Callable[[], Awaitable[Said]],
) -> None:  # fmt: skip
    await proven(consenting(1, sisters=True))
    await enter_consents(database, settings)
    for body in (person(1), consenting(1, others=True)):
        await withdraw((await sign(body)).json()["receipt"])
        await enter_consents(database, settings)
        assert await told() == []
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_who_brought_it_is_told_also_without_a_consent(
    sign: Post,
    withdraw: Post,
    petition_id: UUID,
    database: Database,
    partners: dict[str, UUID],
    told: Callable[[], Awaitable[Said]],
) -> None:
    signed = (await sign(person(1))).json()
    await run(database, "UPDATE signatures SET partner_id = :id", id=partners["bringers"])
    await withdraw(signed["receipt"])
    ((organization_id, content),) = await told()
    assert organization_id == partners["bringers"]
    assert (content["signature_id"], content["brought"]) == (
        told_id(partners["bringers"], attempt_id(petition_id, signed)),
        True,
    )


async def test_what_is_signed_anew_before_it_was_told_still_is_told_of_the_attempt_that_was_withdrawn(
    sign: Post, proven: Proven, withdraw: Post, database: Database, settings: Settings, partners: dict[str, UUID],
    told: Callable[[], Awaitable[Said]],
) -> None:  # fmt: skip
    first = await proven(consenting(1, sisters=True))
    await enter_consents(database, settings)
    await withdraw(first["receipt"])
    second = (await sign(consenting(1, sisters=True))).json()
    await withdraw(second["receipt"])
    third = await proven(consenting(1, sisters=True))
    assert [content["signature_id"] for _, content in await told()] == [told_id(partners["sisters"], first["id"])]
    assert await exact_counts(database) == {"end-the-ban": 1}
    await enter_consents(database, settings)
    await withdraw(third["receipt"])
    assert [content["signature_id"] for _, content in await told()] == [told_id(partners["sisters"], third["id"])]
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_what_came_without_a_consent_is_told_to_nobody_who_had_one_before(
    proven: Proven, sign: Post, withdraw: Post, database: Database, settings: Settings, partners: dict[str, UUID],
    told: Callable[[], Awaitable[Said]],
) -> None:  # fmt: skip
    """Somebody signs as another with a consent to themselves and withdraws: they learn of no later signature."""
    mine = (await sign(consenting(1, sisters=True))).json()
    await enter_consents(database, settings)
    await withdraw(mine["receipt"])
    consented = await proven(consenting(1, others=True))
    await enter_consents(database, settings)
    later = await proven(person(1))
    assert await told() == []
    await withdraw(later["receipt"])
    # All that the person had is withdrawn; who had a consent is told of the attempt that brought it.
    assert [(organization_id, content["signature_id"]) for organization_id, content in await told()] == [
        (partners["others"], told_id(partners["others"], consented["id"]))
    ]
    await withdraw((await proven(person(1)))["receipt"])
    assert await told() == []


@pytest.mark.parametrize("choice", ["keep", "withdraw"])
async def test_nothing_is_noted_any_more_of_whoever_is_erased(
    served: object, sign: Post, proven: Proven, withdraw: Post, database: Database, partners: dict[str, UUID],
    settings: Settings, told: Callable[[], Awaitable[Said]], choice: str,
) -> None:  # fmt: skip
    signed = await proven(consenting(1, sisters=True))
    await enter_consents(database, settings)
    await sign(consenting(1, others=True))
    await withdraw(signed["receipt"])
    await sign(person(1))
    noted = "SELECT id FROM signatures WHERE withdrawn_id IS NOT NULL"
    assert len(await run(database, noted)) == 1
    await SignatureStore(served.api.state.services).erase(  # type: ignore[attr-defined]
        settings.key_ring.digest(canonical(person(1)["email"])), choice
    )  # type: ignore[arg-type]
    assert await run(database, noted) == []
    assert await run(database, "SELECT 1 FROM signature_attempts") == []
    assert await told() == []


async def test_partners_that_brought_a_signature_are_told_of_the_erasure_with_its_id(
    served: object, sign: Post, petition_id: UUID, database: Database, partners: dict[str, UUID], settings: Settings
) -> None:
    id_ = attempt_id(petition_id, (await sign(person(1))).json())
    await sign(person(2))
    await run(database, "UPDATE signatures SET partner_id = :id WHERE id = :one", id=partners["bringers"], one=id_)
    signer = settings.key_ring.digest(canonical(person(1)["email"]))
    for _ in range(2):
        await SignatureStore(served.api.state.services).erase(  # type: ignore[attr-defined]
            signer, "withdraw"
        )
    rows = await run(database, "SELECT organization_id, content FROM outbox_messages WHERE type = 'person.erased'")
    named = person_id(settings.key_ring, partners["bringers"], signer)
    (row,) = rows
    assert row.organization_id == partners["bringers"]
    assert row.content == {
        "person_id": named,
        "signature_ids": [told_id(row.organization_id, id_)],
        "at": row.content["at"],
    }


@pytest.mark.parametrize("swept", [False, True])
async def test_whoever_signs_anew_after_they_were_brought_is_not_forgotten_by_who_brought_them(
    sign: Post, withdraw: Post, petition_id: UUID, settings: Settings, partners: dict[str, UUID], bring: Bring,
    told: Callable[[], Awaitable[Said]], erase: Callable[[], Awaitable[Said]], swept: bool,
) -> None:  # fmt: skip
    id_ = await bring()
    await withdraw(receipt_of(settings, petition_id, id_))
    said = await told() if swept else []
    signed = (await sign(person(1))).json()
    said += await told()
    assert [(organization_id, content["signature_id"], content["brought"]) for organization_id, content in said] == [
        (partners["bringers"], told_id(partners["bringers"], id_), True)
    ]
    ((organization_id, content),) = await erase()
    assert (organization_id, content["signature_ids"]) == (partners["bringers"], [told_id(partners["bringers"], id_)])
    assert told_id(organization_id, attempt_id(petition_id, signed)) not in str(content)


@pytest.mark.parametrize("way", ["receipt", "own page"])
async def test_whoever_proves_that_they_withdraw_while_what_was_brought_waits_lets_those_know_who_brought_it(
    served: object, sign: Post, proven: Proven, withdraw: Post, petition_id: UUID, database: Database,
    partners: dict[str, UUID], bring: Bring, told: Callable[[], Awaitable[Said]],
    erase: Callable[[], Awaitable[Said]], way: str,
) -> None:  # fmt: skip
    await run(database, "UPDATE petitions SET confirmation = 'email'")
    ids = {partners[slug]: told_id(partners[slug], await bring(slug)) for slug in ("bringers", "sisters")}
    await withdraw((await sign(person(1))).json()["receipt"])
    assert await told() == [], "an attempt of its own is nothing to those who brought others"
    room: SigningServices = served.api.state.services.of(SigningServices)  # type: ignore[attr-defined]
    if way == "receipt":
        await withdraw((await proven(person(1)))["receipt"])
    else:
        await room.engine.submit(Withdrawal(petition_id, signer_of(person(1)), None, proven=True))
    assert {organization_id: content["signature_id"] for organization_id, content in await told()} == ids
    assert {organization_id: content["signature_ids"] for organization_id, content in await erase()} == {
        organization_id: [id_] for organization_id, id_ in ids.items()
    }


async def test_what_is_withdrawn_beside_the_attempt_that_was_proven_is_told_by_the_id_it_was_brought_by(
    proven: Proven, withdraw: Post, database: Database, partners: dict[str, UUID], bring: Bring,
    told: Callable[[], Awaitable[Said]],
) -> None:  # fmt: skip
    await run(database, "UPDATE petitions SET confirmation = 'email'")
    id_ = await bring()
    signed = await proven(person(1))
    assert await told() == []
    await withdraw(signed["receipt"])
    said = [(organization_id, content["signature_id"]) for organization_id, content in await told()]
    assert (partners["bringers"], told_id(partners["bringers"], id_)) in said
    assert {organization_id for organization_id, _ in said} == {partners["bringers"]}


async def test_who_brought_what_stands_is_told_nothing_of_what_was_withdrawn_before(
    sign: Post, withdraw: Post, database: Database, bring: Bring, told: Callable[[], Awaitable[Said]]
) -> None:
    await run(database, "UPDATE petitions SET confirmation = 'email'")
    await withdraw((await sign(person(1))).json()["receipt"])
    await sign(person(1))
    await bring()
    assert await told() == []
    ((left,),) = await run(database, "SELECT withdrawn_id FROM signatures")
    assert left is None


async def test_a_number_that_is_nobodys_knows_no_partner(
    served: object, sign: Post, withdraw: Post, petition_id: UUID, database: Database, settings: Settings, bring: Bring
) -> None:
    await withdraw(receipt_of(settings, petition_id, await bring()))
    await sign(person(1))
    await SignatureStore(served.api.state.services).erase(  # type: ignore[attr-defined]
        settings.key_ring.digest(canonical(person(1)["email"])), "keep"
    )
    assert await run(database, "SELECT brought_by, brought_ids FROM signatures") == [(None, None)]
    assert await exact_counts(database) == {"end-the-ban": 1}
