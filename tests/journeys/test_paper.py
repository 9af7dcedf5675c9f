"""An operator imports signatures that were given on paper, and proves the tally with the command line."""

import csv
import io
import json
from pathlib import Path

import httpx
import pytest

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.services import command
from tests.support.tallies import exact_counts

pytestmark = pytest.mark.process


PAPER = """given_name,family_name,email,country,region,signed_at
Amina,Okello,amina@example.org,UG,Kampala,2019-03-20T10:00:00Z
Bob,Okello,bob@example.org,UG,Gulu,2019-03-20T11:00:00Z
Claire,Dupont,no-address,FR,,2019-03-20T11:30:00Z
Claire,Dupont,claire@example.org,FR,,2019-03-20T12:00:00Z
Amina,Okello,AMINA@example.org,UG,Kampala,2019-03-21T10:00:00Z
"""
HEADER = ["line", "reason"]


async def test_an_operator_imports_paper_and_proves_the_tally(
    client: httpx.AsyncClient, database: Database, settings: Settings, tmp_path: Path
) -> None:
    known = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "MULTITUDE_SECRET_KEYS": settings.secret_keys.get_secret_value(),
    }
    await insert_petition(database)
    online = person(1, "UG", email="Bob@example.org")
    assert (await client.post("/v1/petitions/end-the-ban/signatures", json=online)).status_code == 201
    paper, refused = tmp_path / "paper.csv", tmp_path / "paper.csv.refused.csv"
    paper.write_text(PAPER)

    told = command("import", "signatures", str(paper), "--petition", "end-the-ban", "--json", **known)
    assert json.loads(told.stdout) == {"read": 5, "counted": 2, "duplicate": 2, "refused": 1}, told.stderr
    rows = list(csv.reader(io.StringIO(refused.read_text())))
    assert rows == [HEADER, ["4", "email: is not a valid e-mail address"]]

    corrected = PAPER.replace("no-address", "claire.dupont@example.org")
    paper.write_text(corrected)
    told = command("import", "signatures", str(paper), "--petition", "end-the-ban", **known)
    assert "5 lines: 1 counted, 4 had signed, 0 refused" in " ".join(told.stdout.split()), told.stderr
    assert list(csv.reader(io.StringIO(refused.read_text()))) == [HEADER]

    shown = command("tally", "show", "--petition", "end-the-ban", "--by", "country", **known)
    assert shown.stdout.splitlines() == ["country,signature_count", "FR,2", "UG,2"]
    shown = command("tally", "show", "--petition", "end-the-ban", "--by", "region", "--json", **known)
    assert json.loads(shown.stdout)["total"] == 4
    verified = command("tally", "verify", "--json", **known)
    assert (verified.returncode, json.loads(verified.stdout)["agrees"]) == (0, True)
    assert await exact_counts(database) == {"end-the-ban": 4}

    await run(database, "UPDATE signature_tallies SET signature_count = 9 WHERE key = 'FR'")
    verified = command("tally", "verify", **known)
    assert verified.returncode == 1
    assert "differ from a recount" in " ".join(verified.stdout.split())


async def test_what_cannot_be_imported_is_told_in_a_sentence(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    known = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "MULTITUDE_SECRET_KEYS": settings.secret_keys.get_secret_value(),
    }
    await insert_petition(database, "over", state="closed")
    await insert_petition(database, "open")
    paper = tmp_path / "paper.csv"
    paper.write_text(PAPER)
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("name,e-mail\nAmina,amina@example.org\n")
    for file, petition, said in (
        (paper, "unknown", "There is no such petition"),
        (paper, "over", "does not take signatures at this time"),
        (wrong, "open", "The first line must name the columns"),
    ):
        told = command("import", "signatures", str(file), "--petition", petition, **known)
        assert told.returncode == 1
        assert said in " ".join(told.stderr.split())
        assert "Traceback" not in told.stderr
    told = command("import", "signatures", str(paper), "--petition", "open", DATABASE_URL=known["DATABASE_URL"])
    assert told.returncode == 1
    assert "MULTITUDE_SECRET_KEYS" in told.stderr
    other = known | {"MULTITUDE_SECRET_KEYS": "another-secret-that-is-only-for-tests"}
    first = command("import", "signatures", str(paper), "--petition", "open", **known)
    assert first.returncode == 0, first.stderr
    told = command("import", "signatures", str(paper), "--petition", "open", **other)
    assert told.returncode == 1
    assert "another digest key" in " ".join(told.stderr.split())
    assert await exact_counts(database) == {"open": 3, "over": 0}
