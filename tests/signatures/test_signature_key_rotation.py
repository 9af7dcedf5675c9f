"""`multitude keys rotate-encryption`: everything sealed comes under the newest key, and what does not is told."""

import json
import re
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from app.kit.crypto import key_rotation
from app.kit.crypto.key_rotation import SealedColumn
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.session import Database, committing
from app.kit.room_interface import sealed_columns_of
from app.rooms import ROOMS, metadata
from app.settings import Settings
from app.signatures.key_rotation import SIGNATURES
from app.signatures.signing.sealing import unseal
from tests.support.application import serving
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.services import command
from tests.support.settings import SECRET_KEYS as OLD
from tests.support.tallies import dump_signatures, exact_counts

pytestmark = pytest.mark.process


NEW, NEWER = "a-new-secret-that-is-only-for-tests-02", "a-newer-secret-that-is-only-for-tests-3"
COLUMN = "signatures.sealed"
Sign = Callable[..., Awaitable[httpx.Response]]
Withdraw = Callable[..., Awaitable[httpx.Response]]
Rotate = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def rotate(url: str) -> Rotate:
    """Run the command with this ring."""

    def run_it(ring: str, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        return command("keys", "rotate-encryption", *words, DATABASE_URL=url, MULTITUDE_SECRET_KEYS=ring, **settings)

    return run_it


def said(told: "subprocess.CompletedProcess[str]") -> str:
    return " ".join(told.stdout.split())


def of_signatures(told: "subprocess.CompletedProcess[str]") -> tuple[int, int, int, int]:
    """What `--json` tells of signatures: sealed, resealed, unreadable, left. The whole is the sum of its tables."""
    whole = json.loads(told.stdout)
    tables = whole["tables"].values()
    for name in ("resealed", "unreadable", "left"):
        assert whole[name] == sum(table[f"{name}_count"] for table in tables)
    counts = whole["tables"][COLUMN]
    return counts["sealed_count"], counts["resealed_count"], counts["unreadable_count"], counts["left_count"]


async def opened(database: Database, ring: KeyRing) -> set[str]:
    """The addresses of everybody whose value is kept, opened with this ring."""
    rows = await run(database, "SELECT petition_id, signer, sealed FROM signatures WHERE sealed <> ''")
    return {unseal(ring, *row).email for row in rows}


async def unsealed(database: Database) -> list[dict[str, Any]]:
    """Every signature and every tally, but for what is sealed."""
    rows = [row._asdict() for row in await dump_signatures(database)]
    return [row | {"sealed": len(row["sealed"])} if "sealed" in row else row for row in rows]


async def test_everything_is_brought_under_the_newest_key_and_nothing_else_changes(
    sign: Sign, withdraw: Withdraw, rotate: Rotate, database: Database
) -> None:
    await insert_petition(database, "another")
    for number in range(6):
        await sign(person(number))
    await sign(person(7), "/v1/petitions/another")
    await withdraw((await sign(person(6))).json()["receipt"])
    before = await unsealed(database)
    told = rotate(f"{NEW},{OLD}")
    assert (told.returncode, told.stderr) == (0, "")
    assert re.match(r"All \d+ values are under the newest key: \d+ were sealed anew\.", said(told))
    assert await unsealed(database) == before
    assert await exact_counts(database) == {"another": 1, "end-the-ban": 6}
    assert await opened(database, KeyRing.parse(NEW, OLD)) == {person(n)["email"] for n in (*range(6), 7)}
    with pytest.raises(SealBrokenError):
        await opened(database, KeyRing.parse(OLD))


async def test_a_second_run_finds_nothing_to_do(sign: Sign, rotate: Rotate, database: Database) -> None:
    for number in range(3):
        await sign(person(number))
    ring = f"{NEW},{OLD}"
    assert of_signatures(rotate(ring, "--json")) == (3, 3, 0, 0)
    before = await run(database, "SELECT xmin::text, ctid::text, * FROM signatures ORDER BY signer")
    again = rotate(ring, "--json")
    assert (again.returncode, of_signatures(again)) == (0, (3, 0, 0, 0))
    assert json.loads(again.stdout)["resealed"] == 0
    assert await run(database, "SELECT xmin::text, ctid::text, * FROM signatures ORDER BY signer") == before
    assert of_signatures(rotate(f"{NEWER},{NEW},{OLD}", "--json")) == (3, 3, 0, 0)
    assert await opened(database, KeyRing.parse(NEWER, OLD)) == {person(n)["email"] for n in range(3)}


async def test_the_old_key_can_be_removed_as_the_command_says(
    sign: Sign, rotate: Rotate, database: Database, settings: Settings, url: str
) -> None:
    receipt = (await sign(person(1))).json()["receipt"]
    await sign(person(2))
    told = said(rotate(f"{NEW},{OLD}"))
    assert "First set MULTITUDE_DIGEST_KEY to the last secret of MULTITUDE_SECRET_KEYS" in told
    assert "can be removed from MULTITUDE_SECRET_KEYS" in told
    assert NEW not in told
    assert OLD not in told
    refused = rotate(NEW)
    assert refused.returncode == 1
    assert "filled with another digest key" in " ".join(refused.stderr.split())
    alone = rotate(NEW, MULTITUDE_DIGEST_KEY=OLD)
    assert alone.returncode == 0
    assert "There is nothing else to do." in said(alone)
    assert "MULTITUDE_DIGEST_KEY" not in said(rotate(f"{NEW},{OLD}", MULTITUDE_DIGEST_KEY=OLD))
    rotated = {"database_url": url, "secret_keys": NEW, "digest_key": OLD, "log_level": "ERROR"}
    async with serving(Settings.model_validate(rotated)) as (_, _, client):
        at = "/v1/petitions/end-the-ban"
        assert (await client.post(f"{at}/signatures", json=person(2))).status_code == 201
        assert (await client.post(f"{at}/withdrawals", json={"receipt": receipt})).json() == {"status": "withdrawn"}
    assert await exact_counts(database) == {"end-the-ban": 1}
    assert await opened(database, KeyRing.parse(NEW, OLD)) == {person(2)["email"]}


async def test_what_no_key_opens_is_told_and_left_as_it_is(sign: Sign, rotate: Rotate, database: Database) -> None:
    for number in range(5):
        await sign(person(number))
    # One by a key that is lost, one put into another's row, one cut short, one of a single byte.
    rows = await run(database, "SELECT petition_id, signer, sealed FROM signatures ORDER BY signer")
    lost = KeyRing.parse("a-secret-that-has-been-lost-for-good-01").seal(b"Amina", b"")
    broken = [lost, rows[4].sealed, rows[2].sealed[:-1], b"\1"]
    for row, sealed in zip(rows, broken, strict=False):
        await run(database, "UPDATE signatures SET sealed = :sealed WHERE signer = :of", sealed=sealed, of=row.signer)
    ring = f"{NEW},{OLD}"
    told = rotate(ring)
    assert (told.returncode, told.stderr) == (1, "")
    assert f"{COLUMN}: no key opens 4 values. They were left as they are." in said(told)
    assert "can be removed" not in said(told)
    assert not any(hidden in told.stdout for hidden in ("Amina", "example.org", rows[0].signer.hex(), lost.hex()))
    again = rotate(ring, "--json")
    assert (again.returncode, of_signatures(again)) == (1, (5, 0, 4, 0))
    left = await run(database, "SELECT sealed FROM signatures ORDER BY signer")
    assert [row.sealed for row in left[:4]] == broken
    last = unseal(KeyRing.parse(NEW, OLD), rows[4].petition_id, rows[4].signer, left[4].sealed)
    assert last.email in {person(n)["email"] for n in range(5)}


async def test_a_key_removed_too_early_is_told_and_can_be_put_back(
    sign: Sign, rotate: Rotate, database: Database
) -> None:
    await sign(person(1))
    early = rotate(NEW, "--json", MULTITUDE_DIGEST_KEY=OLD)
    assert (early.returncode, of_signatures(early)) == (1, (1, 0, 1, 0))
    assert of_signatures(rotate(f"{NEW},{OLD}", "--json")) == (1, 1, 0, 0)


async def test_with_one_key_there_is_nothing_to_do(sign: Sign, rotate: Rotate, database: Database) -> None:
    await sign(person(1))
    told = rotate(OLD)
    assert told.returncode == 0
    done = r"All \d+ values are under the newest key: 0 were sealed anew\. There is nothing else to do\."
    assert re.fullmatch(done, said(told))


@pytest.mark.parametrize("ring", ["", "short"])
async def test_without_keys_nothing_is_touched(sign: Sign, rotate: Rotate, database: Database, ring: str) -> None:
    await sign(person(1))
    before = await dump_signatures(database)
    told = rotate(ring)
    assert (told.returncode, told.stdout) == (1, "")
    assert await dump_signatures(database) == before


async def test_a_value_that_changes_while_it_is_sealed_anew_is_not_overwritten(
    sign: Sign, withdraw: Withdraw, database: Database, settings: Settings
) -> None:
    receipt = (await sign(person(1))).json()["receipt"]
    await sign(person(2))
    ring = KeyRing.parse(f"{NEW},{OLD}")
    read = await run(database, "SELECT petition_id, signer, sealed FROM signatures ORDER BY signer")
    await withdraw(receipt)
    connection = await database.pin()
    batch = await key_rotation._reseal_batch(connection, ring, SIGNATURES, [tuple(row) for row in read])  # type: ignore[misc]
    await connection.close()
    assert batch == (1, 0)
    rows = await run(database, "SELECT state, octet_length(sealed) > 0 AS kept FROM signatures ORDER BY state")
    assert [tuple(row) for row in rows] == [("confirmed", True), ("withdrawn", False)]
    assert await opened(database, KeyRing.parse(NEW, OLD)) == {person(2)["email"]}


async def test_a_row_that_somebody_holds_is_left_for_a_later_pass(sign: Sign, database: Database) -> None:
    await sign(person(1))
    ring = KeyRing.parse(f"{NEW},{OLD}")
    holder, connection = await database.pin(), await database.pin()
    await connection.execute("SET lock_timeout = '50ms'")
    async with committing(holder):
        await holder.execute("SELECT 1 FROM signatures FOR UPDATE")
        held = await key_rotation.reseal(database, connection, ring, SIGNATURES, lambda _: None)
    assert held == key_rotation.Resealed(sealed_count=1, resealed_count=0, unreadable_count=0, left_count=1)
    settled: list[int] = []
    free = await key_rotation.reseal(database, connection, ring, SIGNATURES, settled.append)
    assert free == key_rotation.Resealed(sealed_count=1, resealed_count=1, unreadable_count=0, left_count=0)
    assert sum(settled) == 1
    await holder.close()
    await connection.close()


async def test_a_pass_goes_through_all_petitions_however_the_batches_fall(
    sign: Sign, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await insert_petition(database, "another")
    for number in range(5):
        await sign(person(number))
        await sign(person(number), "/v1/petitions/another")
    connection, secrets = await database.pin(), [OLD]
    for size in (1, 3, 5, 10, 11):
        monkeypatch.setattr(key_rotation, "BATCH_LIMIT", size)
        secrets.insert(0, f"a-new-secret-that-is-only-for-tests-{size}")
        ring = KeyRing.parse(",".join(secrets))
        batches = [batch async for batch in key_rotation.walk(connection, ring, SIGNATURES)]
        assert [sum(counts) for counts in zip(*batches, strict=True)] == [10, 0]
        assert await opened(database, KeyRing.parse(secrets[0], OLD)) == {person(n)["email"] for n in range(5)}
    await connection.close()


async def test_a_column_may_be_empty_and_its_key_of_any_type(own_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_rotation, "BATCH_LIMIT", 2)
    notes = SealedColumn("notes", {"number": "bigint"}, "sealed", lambda number: b"notes.sealed%d" % number)
    before, after = KeyRing.parse(OLD), KeyRing.parse(f"{NEW},{OLD}")
    database = Database(own_url, name="test")
    connection = await database.pin()
    await connection.execute("CREATE TABLE notes (number bigint PRIMARY KEY, sealed bytea)")
    values = [
        (number, before.seal(b"%d" % number, notes.identity(number)) if number % 3 else None) for number in range(9)
    ]
    await connection.executemany("INSERT INTO notes VALUES ($1, $2)", [*values, (9, b"")])
    told = await key_rotation.reseal(database, connection, after, notes, lambda _: None)
    assert told == key_rotation.Resealed(sealed_count=6, resealed_count=6, unreadable_count=0, left_count=0)
    rows = await connection.fetch("SELECT number, sealed FROM notes ORDER BY number")
    assert [row["sealed"] for row in rows if row["number"] % 3 == 0] == [None, None, None, b""]
    newest = KeyRing.parse(NEW)
    opened = [newest.open(row["sealed"], notes.identity(row["number"])) for row in rows if row["number"] % 3]
    assert opened == [b"1", b"2", b"4", b"5", b"7", b"8"]
    await connection.close()
    await database.close()


def test_every_sealed_column_of_the_house_is_in_the_list_with_its_primary_key() -> None:
    sealed = {f"{name}.sealed" for name, table in metadata.tables.items() if "sealed" in table.columns}
    assert sealed <= {column.name for column in sealed_columns_of(ROOMS)}
    for column in sealed_columns_of(ROOMS):
        assert [key.name for key in metadata.tables[column.table].primary_key] == list(column.keys)
