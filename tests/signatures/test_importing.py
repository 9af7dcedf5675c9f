"""Importing: whatever is in the file, each line is counted once or refused with its number and its reason."""

import csv
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest

from app.commands.console import CommandError
from app.commands.imports import _import
from app.kit.database.session import Database
from app.petitions.directory import open_directory
from app.petitions.service import PetitionNotFound
from app.settings import Settings
from app.signatures import importing
from app.signatures.engine.lanes import claim
from app.signatures.importing import Import, Line, Summary, UnreadableFileError, read_lines
from app.signatures.schemas import ImportedSigning
from app.signatures.service import PetitionNotOpen
from app.signatures.signing.sealing import Personal, unseal
from tests.support.attempts import prove
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.settings import FINGERPRINT
from tests.support.tallies import dump_signatures, exact_counts
from tests.support.types import Json

Sign = Callable[..., Awaitable[httpx.Response]]
BOM = b"\xef\xbb\xbf"
HEAD = "given_name,family_name,email,country"


class Done(NamedTuple):
    """What an import told: its summary, and the refused lines with their reasons."""

    read: int
    counted: int
    duplicate: int
    refused: int
    reasons: dict[int, str]


Bring = Callable[..., Awaitable[Done]]


@pytest.fixture
def bring(settings: Settings, petition_id: UUID, tmp_path: Path) -> Bring:
    """Import this content into `end-the-ban`."""

    async def run_import(content: str | bytes, petition: str = "end-the-ban") -> Done:
        file, listed = tmp_path / "paper", tmp_path / "refused.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        done = await _import(settings, file, petition, listed)
        head, *rows = csv.reader(io.StringIO(listed.read_text()))
        assert head == ["line", "reason"]
        assert done.refused == len(rows)
        reasons = {int(number): reason for number, reason in rows}
        return Done(done.read, done.counted, done.duplicate, done.refused, reasons)

    return run_import


def csv_of(*people: Json) -> str:
    return "".join(f"{line}\n" for line in (HEAD, *(",".join(body[key] for key in HEAD.split(",")) for body in people)))


def ndjson_of(*people: Json) -> str:
    return "".join(f"{json.dumps(body)}\n" for body in people)


CROWD = [person(number) for number in range(5)]


@pytest.mark.parametrize("written", [csv_of, ndjson_of])
async def test_a_file_of_signatures_counts_and_run_again_counts_nothing(
    bring: Bring, database: Database, written: Callable[..., str]
) -> None:
    assert await bring(written(*CROWD)) == (5, 5, 0, 0, {})
    before = await run(database, "SELECT * FROM signatures ORDER BY signer")
    assert await bring(written(*CROWD)) == (5, 0, 5, 0, {})
    assert await run(database, "SELECT * FROM signatures ORDER BY signer") == before
    assert await bring(written(*CROWD, person(9), person(9))) == (7, 1, 6, 0, {})
    assert await exact_counts(database) == {"end-the-ban": 6}


@pytest.mark.parametrize("written", [csv_of, ndjson_of])
async def test_however_the_file_was_saved(bring: Bring, database: Database, written: Callable[..., str]) -> None:
    content = written(*CROWD).encode()
    for saved in (
        BOM + content,
        content.replace(b"\n", b"\r\n"),
        BOM + content.replace(b"\n", b"\r\n").rstrip(),
        content.rstrip(),
        content.replace(b"\n", b"\n\n"),
        content + b"\r\n\n",
    ):
        done = await bring(saved)
        assert (done.read, done.counted + done.duplicate, done.refused) == (5, 5, 0)
    assert await exact_counts(database) == {"end-the-ban": 5}


async def test_every_field_of_a_line_arrives(bring: Bring, database: Database, settings: Settings) -> None:
    columns = "email,signed_at,country,given_name,family_name,postal_code,region,locale,comment,source,referral"
    line = 'amina@example.org,2019-03-20T23:30:00-01:00,ug,"A ""B"" C","Okello, Jr",256,Gulu,sw,"one\ntwo",paper,Otto'
    assert (await bring(f"{columns}\n{line}\n"))[:4] == (1, 1, 0, 0)
    row = (await run(database, "SELECT * FROM signatures"))[0]
    assert (row.country, row.region, row.source) == ("UG", "Gulu", "paper")
    assert row.signed_at.isoformat() == "2019-03-21T00:30:00+00:00"
    told = unseal(settings.key_ring, row.petition_id, row.signer, row.sealed)
    assert told == Personal(
        given_name='A "B" C',
        family_name="Okello, Jr",
        email="amina@example.org",
        postal_code="256",
        locale="sw",
        comment="one\ntwo",
        referral="Otto",
    )
    hours = await run(database, "SELECT key FROM signature_tallies WHERE dimension = 'hour'")
    assert [row.key for row in hours] == ["2019-03-21T00:00:00Z"]


async def test_consents_come_with_ndjson(bring: Bring) -> None:
    body = person(1, consents=[{"organization": "movement", "given": True}], signed_at="2019-03-20T12:00:00Z")
    assert (await bring(ndjson_of(body))).counted == 1


async def test_consents_to_nobody_are_refused_and_cost_no_other_line(bring: Bring) -> None:
    unknown = person(1, consents=[{"organization": "hidden-partner", "given": True}])
    done = await bring(ndjson_of(unknown, person(2)))
    assert (done.counted, done.reasons) == (1, {1: "consents: A consent names an organization that does not exist"})


async def test_refused_lines_are_told_by_number_and_reason_without_their_data(bring: Bring, database: Database) -> None:
    lines = [
        HEAD,
        "Amina,Okello,amina@example.org,UG",
        "Hidden1,Okello,no-address-hidden2,UG",
        "Hidden3,,hidden4@example.org,UG",
        "Hidden5,Okello,hidden6@example.org,Hidden7",
        "Hidden8,Okello,hidden9@example.org,UG,too,many",
        "Hidden10,Okello",
        "Hidden\x0011,Okello,hidden12@example.org,UG",
        "Bob,Okello,bob@example.org,FR",
    ]
    done = await bring("\n".join(lines))
    assert (done.read, done.counted, done.duplicate) == (8, 2, 0)
    assert set(done.reasons) == {3, 4, 5, 6, 7, 8}
    assert done.reasons[3] == "email: is not a valid e-mail address"
    assert done.reasons[5].startswith("country: ")
    assert all(reason and "idden" not in reason for reason in done.reasons.values())
    assert await exact_counts(database) == {"end-the-ban": 2}


async def test_refused_lines_of_ndjson(bring: Bring, database: Database) -> None:
    secret = "hidden@example.org"
    lines = [
        json.dumps(person(1)),
        '{"given_name": "hidden',
        "[]",
        json.dumps(person(2, email="hidden")),
        json.dumps(person(3) | {secret: secret}),
        json.dumps(person(4, signed_at="2999-01-01T00:00:00Z")),
        json.dumps(person(5, signed_at="1900-01-01T00:00:00Z")),
        json.dumps(person(6, signed_at="2020-01-01T00:00:00")),
        "[" * 100_000,
        json.dumps(person(7)),
    ]
    done = await bring("\n".join(lines))
    assert (done.read, done.counted) == (10, 2)
    assert set(done.reasons) == set(range(2, 10))
    assert all(reason and "hidden" not in reason for reason in done.reasons.values())
    assert await exact_counts(database) == {"end-the-ban": 2}


async def test_bytes_that_are_no_text_spoil_their_own_line_alone(bring: Bring) -> None:
    spoilt = b"\xff\xfeHidden,Okello,hidden@example.org,UG\n"
    done = await bring(csv_of(*CROWD[:2]).encode() + spoilt + b"Bob,Okello,bob@example.org,UG\n")
    assert (done.counted, set(done.reasons)) == (3, {4})
    spoilt = b'{"given_name": "\xff"}\n'
    done = await bring(ndjson_of(*CROWD).encode() + spoilt + ndjson_of(person(9)).encode())
    assert (done.counted, done.duplicate, set(done.reasons)) == (4, 2, {6})


async def test_a_line_of_more_than_a_mebibyte_spoils_itself_alone(bring: Bring) -> None:
    long = json.dumps(person(7, comment="x" * 3_000_000)) + "\n"
    done = await bring(ndjson_of(CROWD[0]) + long + ndjson_of(CROWD[1]))
    assert (done.read, done.counted, done.reasons) == (3, 2, {2: "is longer than 1 MiB"})
    cell = f"{'x' * 200_000},Okello,hidden@example.org,UG\n"
    done = await bring(csv_of(person(8)) + cell + "Bob,Okello,bob@example.org,UG\n")
    assert (done.counted, done.reasons) == (2, {3: "is not valid CSV"})


async def test_a_quotation_mark_that_is_never_closed_is_told_with_all_it_swallowed(bring: Bring) -> None:
    done = await bring(csv_of(person(1)) + '"Bob,Okello,bob@example.org,UG\n' + csv_of(person(2), person(3)))
    assert done.counted == 1
    assert [(number, reason.partition("(")[2]) for number, reason in done.reasons.items()] == [
        (6, "lines 3 to 6, read as one)")
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (BOM + b" \r\n\n", "empty"),
        (b"given_name,family_name,email\nA,B,a@example.org\n", "missing: country"),
        (b"Amina,Okello,hidden@example.org,UG\n", "missing:"),
        (f"{HEAD},nickname\nA,B,a@example.org,UG,hidden\n".encode(), "Only these columns"),
        (f"{HEAD},consents\nA,B,a@example.org,UG,[]\n".encode(), "Only these columns"),
        (b"\x00\x01\x02\xff" * 100, "missing:"),
        (b'[{"given_name": "Amina"}]', "missing:"),
        (b"x" * 1_000_000, "neither"),
    ],
)
async def test_a_file_of_another_kind_is_refused_whole(bring: Bring, content: bytes, said: str) -> None:
    with pytest.raises((CommandError, UnreadableFileError), match=said) as refused:
        await bring(content)
    assert "hidden" not in str(refused.value)


async def test_a_petition_that_is_not_open_refuses_the_file_whole(bring: Bring, database: Database) -> None:
    await run(database, "UPDATE petitions SET state = 'closed'")
    with pytest.raises(PetitionNotOpen):
        await bring(csv_of(*CROWD))
    with pytest.raises(PetitionNotFound):
        await bring(csv_of(*CROWD), "unknown")
    assert await dump_signatures(database) == []


async def test_lines_from_countries_that_may_not_sign_are_refused(bring: Bring, database: Database) -> None:
    await insert_petition(database, "elsewhere", allowed_countries=["FR"])
    done = await bring(csv_of(person(1, "UG"), person(2, "FR"), person(3, "UG")), "elsewhere")
    assert (done.counted, set(done.reasons)) == (1, {2, 4})
    assert await exact_counts(database) == {"elsewhere": 1, "end-the-ban": 0}


async def test_whoever_has_proven_that_they_withdraw_stays_withdrawn(
    bring: Bring, sign: Sign, client: httpx.AsyncClient, petition_id: UUID, database: Database
) -> None:
    await bring(csv_of(*CROWD))
    told = (await sign(person(7))).json()
    receipt = await prove(client, petition_id, person(7), told)
    await client.post(told["links"]["withdraw"], json={"receipt": receipt})
    assert await bring(csv_of(*CROWD, person(7))) == (6, 0, 6, 0, {})
    assert await exact_counts(database) == {"end-the-ban": 5}
    again = await sign(person(7))
    assert again.status_code == 201
    assert await exact_counts(database) == {"end-the-ban": 5}, "only a proof counts from then on"
    await prove(client, petition_id, person(7), again.json())
    assert await exact_counts(database) == {"end-the-ban": 6}


async def test_a_withdrawal_that_nobody_has_proven_keeps_nobody_out_of_an_import(
    bring: Bring, sign: Sign, client: httpx.AsyncClient, database: Database
) -> None:
    told = (await sign(person(1))).json()
    await client.post(told["links"]["withdraw"], json={"receipt": told["receipt"]})
    assert await bring(csv_of(*CROWD)) == (5, 5, 0, 0, {})
    assert await exact_counts(database) == {"end-the-ban": 5}


async def test_whoever_signed_and_stands_in_the_file_is_one(bring: Bring, sign: Sign, database: Database) -> None:
    await sign(person(1, email="Person.1@EXAMPLE.org"))
    assert (await bring(csv_of(*CROWD)))[:3] == (5, 4, 1)
    assert await exact_counts(database) == {"end-the-ban": 5}


async def test_an_import_that_is_broken_off_is_entered_in_the_audit_log(
    settings: Settings, database: Database, petition_id: UUID, tmp_path: Path
) -> None:
    file = tmp_path / "signatures.csv"
    file.write_text(csv_of(*CROWD))
    # What is left of the refused lines cannot be written any more.
    with pytest.raises(CommandError):
        await _import(settings, file, "end-the-ban", Path("/dev/full"))
    counted = (await exact_counts(database))["end-the-ban"]
    assert counted > 0
    entries = await run(database, "SELECT verb, role, object_id, row_count FROM audit_entries")
    assert [tuple(entry) for entry in entries] == [("signatures.import", "operator", str(petition_id), counted)]


async def test_an_import_that_was_cut_short_is_run_again(
    settings: Settings, database: Database, petition_id: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 10)
    entry = await open_directory(database).refresh("end-the-ban")
    assert entry is not None

    def lines(until: int) -> Iterator[Line]:
        for number in range(until):
            yield Line(number, ImportedSigning.model_validate(person(number)))
        if until < 95:
            raise OSError("the disk was pulled out")

    async def attempt(until: int) -> Summary:
        lane = await claim(database, FINGERPRINT)
        try:
            with (tmp_path / "refused.csv").open("w") as refused:
                return await Import(lane, settings.key_ring, entry, refused).run(lines(until))
        finally:
            await lane.release()

    with pytest.raises(OSError, match="pulled out"):
        await attempt(55)
    counted = (await exact_counts(database))["end-the-ban"]
    assert counted in {40, 50}
    assert (await attempt(95)).counted == 95 - counted
    assert await exact_counts(database) == {"end-the-ban": 95}


def test_a_file_is_read_line_by_line_and_tells_how_far_it_is(tmp_path: Path) -> None:
    for content in (csv_of(*CROWD), ndjson_of(*CROWD)):
        file = tmp_path / "paper"
        file.write_text(content)
        positions: list[int] = []
        lines: Iterator[Any] = read_lines(file, positions.append)
        assert len(list(lines)) == 5
        assert positions == sorted(positions)
        assert positions[-1] == len(content)
