"""The sealed record: versions read each other's, and a row that cannot be read costs itself only."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from app.kit.abuse.rate_limits import open_limiter
from app.kit.crypto.key_rotation import walk
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.session import Database
from app.settings import Settings
from app.signatures.background.consents import ConsentRecorder
from app.signatures.background.mails import SignatureMails
from app.signatures.engine.confirm import confirm
from app.signatures.engine.signings import Origin
from app.signatures.engine.transitions import Confirmation
from app.signatures.key_rotation import SIGNATURES
from app.signatures.me.service import SignatureStore
from app.signatures.schemas import SignatureBody, Unlisted
from app.signatures.signing.sealing import (
    SHORT_NAMES,
    identity,
    reseal_without,
    seal,
    seal_body,
    texts_of,
    unseal,
)
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.invalidations import claimed_lane, prepared_signing, sign_all
from tests.support.people_mails import TEMPLATES
from tests.support.settings import RING, SECRET_KEYS
from tests.support.tallies import exact_counts

ROW = (UUID(int=7), b"s" * 16)
YES = [{"organization": "movement", "given": True}]
# A field that only a newer version knows.
NEWER = {"phone": "+256 700 000000"}


# The order in which versions before joined the fields: it never changes, for they must be able to read ours.
FORMER = ["given_name", "family_name", "email", "postal_code", "locale", "comment", "referral", "consents", "reference"]


def opened(sealed: bytes, row: tuple[UUID, bytes] = ROW) -> Any:
    """What was sealed, by the short names, whichever form it has."""
    plain = RING.open(sealed, identity(*row)).decode()
    if "\x1f" not in plain:
        return json.loads(plain)
    values = plain.split("\x1f")
    return {SHORT_NAMES[name]: text for name, text in zip(FORMER, values, strict=False) if text}


def test_every_field_of_the_body_that_is_marked_is_sealed_as_text() -> None:
    body = SignatureBody.model_validate(person(1, comment="É\nè", referral="Otto", locale="sw", consents=YES))
    sealed = seal_body(RING, *ROW, body, "crm:7")
    personal = unseal(RING, *ROW, sealed)
    assert opened(seal(RING, *ROW, personal)) == opened(sealed)
    told = texts_of(personal)
    assert told.keys() == SHORT_NAMES.keys()
    assert (told["comment"], told["referral"], told["reference"], told["postal_code"]) == ("É\nè", "Otto", "crm:7", "")
    assert json.loads(told["consents"])[0]["organization"] == "movement"
    clear = {"country", "region", "source"}
    assert set(SignatureBody.model_fields) == clear | (SHORT_NAMES.keys() - {"reference", *Unlisted._fields})


def test_short_names_are_one_letter_and_never_change() -> None:
    of = {"given_name": "g", "family_name": "f", "email": "e", "postal_code": "p", "locale": "l", "comment": "c"}
    unlisted = {"unlisted_region": "n", "unlisted_source": "s"}
    assert of | unlisted | {"consents": "y", "referral": "r", "reference": "x"} == SHORT_NAMES


@pytest.mark.parametrize(
    ("joined", "last"),
    [("Amina\x1fOkello\x1fa@example.org", ""), ("A\x1fO\x1fa@b.org\x1f\x1f\x1f\x1f\x1f\x1fcrm:7", "crm:7")],
)
def test_what_was_joined_before_is_still_read_and_written_as_it_was(joined: str, last: str) -> None:
    sealed = RING.seal(joined.encode(), identity(*ROW))
    told = unseal(RING, *ROW, sealed)
    assert [told.given_name, told.family_name, told.email, told.reference] == [*joined.split("\x1f")[:3], last]
    assert unseal(RING, *ROW, reseal_without("consents", RING, *ROW, sealed)) == told
    anew = RING.open(seal(RING, *ROW, told), identity(*ROW)).decode()
    assert (anew.rstrip("\x1f"), len(anew) % 64) == (joined, 0)


def test_the_version_before_can_read_what_this_one_seals() -> None:
    body = SignatureBody.model_validate(person(1, comment="É\nè", referral="Otto", locale="sw", consents=YES))
    joined = RING.open(seal_body(RING, *ROW, body, "crm:7"), identity(*ROW)).decode()
    told = dict(zip(FORMER, joined.split("\x1f"), strict=False))
    assert (told["email"], told["comment"], told["reference"]) == (body.email, "É\nè", "crm:7")


def test_what_was_sealed_tells_no_name_from_another_by_its_length() -> None:
    names = ["Li", "Amina", "Oluwaseun-Maria"]
    bodies = [SignatureBody.model_validate(person(1, given_name=name)) for name in names]
    assert len({len(seal_body(RING, *ROW, body)) for body in bodies}) == 1
    for more in ({}, {"comment": "é" * 300}, {"locale": "sw", "consents": YES}):
        body = SignatureBody.model_validate(person(1, **more))
        for sealed in (
            seal_body(RING, *ROW, body, "crm:7"),
            seal_body(RING, *ROW, body, "crm:7", Unlisted("Gulu", "")),
        ):
            plain = RING.open(sealed, identity(*ROW))
            assert len(plain) % 64 == 0
            personal = unseal(RING, *ROW, sealed)
            assert (personal.reference, personal.comment) == ("crm:7", body.comment or "")
            assert len(RING.open(reseal_without("comment", RING, *ROW, sealed), identity(*ROW))) % 64 == 0


def test_what_a_newer_version_sealed_is_read_and_kept_when_it_is_sealed_anew() -> None:
    newer = {"g": "Amina", "f": "Okello", "e": "a@example.org", "y": "[]"} | NEWER
    sealed = RING.seal(json.dumps(newer).encode(), identity(*ROW))
    told = unseal(RING, *ROW, sealed)
    assert (told.given_name, told.email, told.consents) == ("Amina", "a@example.org", "[]")
    assert opened(reseal_without("consents", RING, *ROW, sealed)) == {
        name: value for name, value in newer.items() if name != "y"
    }


@pytest.mark.parametrize("plain", [b"", b"[]", b'{"g":7}', b"\xff", b"a\x1f\xff"])
def test_what_is_no_such_record_is_told_as_one_that_no_key_opens(plain: bytes) -> None:
    with pytest.raises(SealBrokenError):
        unseal(RING, *ROW, RING.seal(plain, identity(*ROW)))


async def _spoil(database: Database, petition_id: UUID, signers: Sequence[bytes]) -> None:
    """As left by other versions: the first two rows are unreadable, the others have one field more."""
    for number, signer in enumerate(signers):
        row = (petition_id, signer)
        (was,) = (await run(database, "SELECT sealed FROM signatures WHERE signer = :signer", signer=signer))[0]
        plain = (b"\xff", b"[1]")[number] if number < 2 else json.dumps(opened(was, row) | NEWER).encode()
        await run(
            database,
            "UPDATE signatures SET sealed = :sealed WHERE signer = :signer",
            sealed=RING.seal(plain, identity(*row)),
            signer=signer,
        )


@pytest.mark.parametrize("proven", [True, False])
async def test_the_consents_sweep_passes_over_what_it_cannot_read_and_keeps_what_it_does_not_know(
    database: Database, proven: bool
) -> None:
    petition_id = await insert_petition(database)
    people = [prepared_signing(petition_id, person(number, consents=YES)) for number in range(6)]
    await sign_all(database, people, Origin.SIGNER if proven else Origin.IMPORT)
    if proven:
        async with claimed_lane(database) as lane:
            await confirm(lane, [Confirmation(*one[:3], accepted=1) for one in people])
    await _spoil(database, petition_id, [one.signer for one in people])
    async with database.transaction() as session:
        assert len(await ConsentRecorder(RING)(session)) == 6
    entered = await run(database, "SELECT signer, proven FROM consents WHERE given")
    assert {row.proven for row in entered} == {proven}
    recorded = {row.signer for row in entered}
    assert recorded == {one.signer for one in people[2:]}
    for signer, sealed in await run(database, "SELECT signer, sealed FROM signatures WHERE consents_due IS NULL"):
        assert signer in recorded
        kept = opened(sealed, (petition_id, signer))
        assert ("y" in kept) is not proven, "what was attested can be proven later"
        assert kept.items() >= NEWER.items()
    assert await exact_counts(database) == {"end-the-ban": 6}


async def test_mails_are_written_to_all_others(database: Database, settings: Settings) -> None:
    petition_id = await insert_petition(database, confirmation="email")
    people = [prepared_signing(petition_id, person(number)) for number in range(6)]
    await sign_all(database, people)
    await _spoil(database, petition_id, [one.signer for one in people])
    mails = SignatureMails(database, settings, TEMPLATES, open_limiter(settings))
    claimed_mails = (await mails.claim(100)).mails
    assert {mail.key.signer for mail in claimed_mails if mail.mail is not None} == {one.signer for one in people[2:]}


async def test_a_person_is_given_all_other_signatures(database: Database) -> None:
    sealed_badly, well = [await insert_petition(database, slug) for slug in ("end-the-ban", "save-the-lake")]
    both = [prepared_signing(petition_id, person(1)) for petition_id in (sealed_badly, well)]
    await sign_all(database, both)
    signer = both[0].signer
    await run(
        database,
        "UPDATE signatures SET sealed = :sealed WHERE petition_id = :id",
        sealed=RING.seal(b"[1]", identity(sealed_badly, signer)),
        id=sealed_badly,
    )
    async with database.transaction() as session:
        exported = await SignatureStore(None, database).export(session, RING, signer)
    told = {one["slug"]: (one.get("unreadable"), one.get("email")) for one in exported}
    assert told == {"end-the-ban": (True, None), "save-the-lake": (None, person(1)["email"])}


async def test_key_rotation_carries_every_record_over_as_it_is(database: Database) -> None:
    petition_id = await insert_petition(database)
    people = [prepared_signing(petition_id, person(number)) for number in range(6)]
    await sign_all(database, people)
    await _spoil(database, petition_id, [one.signer for one in people])
    statement = "SELECT signer, sealed FROM signatures ORDER BY signer"
    before = {
        signer: RING.open(sealed, identity(petition_id, signer)) for signer, sealed in await run(database, statement)
    }
    rotated = KeyRing.parse(f"a-new-secret-that-is-only-for-tests-02,{SECRET_KEYS}")
    async with claimed_lane(database) as lane:
        batches = [batch async for batch in walk(lane.connection, rotated, SIGNATURES)]
    assert [(batch.resealed_count, batch.unreadable_count) for batch in batches] == [(6, 0)]
    after = await run(database, statement)
    assert {signer: rotated.open(sealed, identity(petition_id, signer)) for signer, sealed in after} == before
