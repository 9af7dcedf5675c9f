"""Whoever signed can take it back, with the receipt and with nothing else."""

from collections.abc import Awaitable, Callable

import httpx

from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.settings import Settings
from app.signatures.signing.sealing import write_receipt
from tests.support.attempts import own_id
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.tallies import exact_counts

Sign = Callable[..., Awaitable[httpx.Response]]
Withdraw = Callable[..., Awaitable[httpx.Response]]
Count = Callable[[], Awaitable[int]]
ANOTHER_RING = KeyRing.parse("another-secret-that-is-only-for-tests")


async def receipt_of(signing: Awaitable[httpx.Response]) -> str:
    return str((await signing).json()["receipt"])


async def states(database: Database) -> list[tuple[str, int]]:
    """State and length of the sealed data of each signature."""
    return [tuple(row) for row in await run(database, "SELECT state, octet_length(sealed) FROM signatures")]


async def test_the_receipt_withdraws_and_destroys_the_personal_data(
    sign: Sign, withdraw: Withdraw, count: Count, database: Database
) -> None:
    receipt = await receipt_of(sign(person(1)))
    await sign(person(2))
    answer = await withdraw(receipt)
    assert (answer.status_code, answer.json()) == (200, {"status": "withdrawn"})
    assert await count() == 1
    assert max(await states(database)) == ("withdrawn", 0)
    assert await exact_counts(database) == {"end-the-ban": 1}


async def test_withdrawing_again_answers_alike_and_changes_nothing(
    sign: Sign, withdraw: Withdraw, database: Database
) -> None:
    receipt = await receipt_of(sign(person(1)))
    answers = [await withdraw(receipt) for _ in range(3)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, '{"status":"withdrawn"}')}
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_the_receipt_of_a_second_signing_opens_nothing(
    sign: Sign, withdraw: Withdraw, count: Count, database: Database
) -> None:
    first, second = await receipt_of(sign(person(1))), await receipt_of(sign(person(1)))
    told = await withdraw(second)
    assert await count() == 1
    assert (await withdraw(first)).text == told.text
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_whoever_withdrew_can_sign_again_and_the_old_receipt_opens_nothing(
    sign: Sign, withdraw: Withdraw, count: Count, database: Database
) -> None:
    old = await receipt_of(sign(person(1)))
    await withdraw(old)
    new = await receipt_of(sign(person(1, country="FR")))
    assert await count() == 1
    assert (await withdraw(old)).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 1}
    await withdraw(new)
    assert await exact_counts(database) == {"end-the-ban": 0}
    assert await states(database) == [("withdrawn", 0)]


async def test_what_is_no_receipt_of_this_petition_is_not_found(
    client: httpx.AsyncClient, sign: Sign, withdraw: Withdraw, database: Database, settings: Settings
) -> None:
    another = await insert_petition(database, "another")
    receipt = await receipt_of(sign(person(1)))
    signer = (await run(database, "SELECT signer FROM signatures"))[0][0]
    forged = [
        await receipt_of(sign(person(1), "/v1/petitions/another")),
        write_receipt(settings.key_ring, another, signer, uuid7()),
        write_receipt(ANOTHER_RING, another, signer, uuid7()),
        *(receipt[:-4], receipt + "A", receipt[::-1], receipt.swapcase(), "A" * len(receipt), "A", "é", "====", " "),
    ]
    for wrong in forged:
        answer = await withdraw(wrong)
        assert (wrong, answer.status_code) == (wrong, 404)
        assert answer.json()["type"] == "urn:multitude:problem:unknown-receipt"
        assert wrong == " " or wrong not in answer.text
    assert (await withdraw(receipt, "/v1/petitions/another")).status_code == 404
    assert (await withdraw(receipt, "/v1/petitions/unknown")).status_code == 404
    assert await exact_counts(database) == {"another": 1, "end-the-ban": 1}


async def test_a_receipt_of_a_ring_of_older_keys_still_withdraws(
    sign: Sign, withdraw: Withdraw, database: Database, settings: Settings
) -> None:
    told = (await sign(person(1))).json()
    row = (await run(database, "SELECT petition_id, signer, id FROM signatures"))[0]
    assert own_id(row.id) == told["id"]
    assert (await withdraw(write_receipt(settings.key_ring, *row))).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_a_signature_is_withdrawn_from_a_petition_that_is_closed(
    sign: Sign, withdraw: Withdraw, database: Database
) -> None:
    receipt = await receipt_of(sign(person(1)))
    await run(database, "UPDATE petitions SET state = 'closed'")
    assert (await withdraw(receipt)).status_code == 200
    assert await exact_counts(database) == {"end-the-ban": 0}


async def test_a_malformed_withdrawal_is_a_problem(client: httpx.AsyncClient, sign: Sign) -> None:
    receipt = await receipt_of(sign(person(1)))
    at = "/v1/petitions/end-the-ban/withdrawals"
    for body in (b"", b"{", b"[]", b"{}", b'{"receipt": 1}', b'{"receipt": ""}', b'{"receipt": "\\ud800"}'):
        answer = await client.post(at, content=body, headers={"content-type": "application/json"})
        assert (body, answer.status_code) == (body, 422)
        assert answer.headers["content-type"] == "application/problem+json"
    answer = await client.post(at, json={"receipt": receipt, "email": "somebody@example.org"})
    assert answer.status_code == 422
    assert "example" not in answer.text
