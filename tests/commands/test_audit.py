"""`multitude audit verify` proves the chain, and what the command line does stands in it."""

import asyncio
import json
from typing import Any

import pytest

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.databases import run
from tests.support.services import command
from tests.support.settings import SECRET_KEYS

pytestmark = pytest.mark.process


@pytest.fixture
def known(settings: Settings) -> dict[str, str]:
    """The environment that the commands read."""
    return {"DATABASE_URL": settings.database_url.get_secret_value(), "MULTITUDE_SECRET_KEYS": SECRET_KEYS}


async def called(known: dict[str, str], *words: str) -> Any:
    return await asyncio.to_thread(command, *words, **known)


async def verified(known: dict[str, str], *words: str) -> tuple[int, dict[str, Any]]:
    done = await called(known, "audit", "verify", "--json", *words)
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, told


async def test_keys_made_on_the_command_line_are_entered_and_the_chain_is_proven(
    known: dict[str, str], database: Database
) -> None:
    empty = await verified(known)
    assert empty == (0, {"intact": True, "head": {"number": 0, "digest": "00" * 32}, "broken": None})
    for role in ("owner", "analyst"):
        made = await called(known, "keys", "create", "--organization", "movement", "--role", role)
        assert made.stdout.startswith(f"mtd_{role}_")
    rows = await run(database, "SELECT verb, role, key_id, object_id FROM audit_entries ORDER BY number")
    ids = {str(row.id) for row in await run(database, "SELECT id FROM api_keys")}
    assert [(row.verb, row.role, row.key_id) for row in rows] == [("api_key.create", "operator", None)] * 2
    assert {row.object_id for row in rows} == ids
    status, told = await verified(known)
    head = told["head"]
    assert (status, told["intact"], head["number"]) == (0, True, 2)
    noted = f"{head['number']}:{head['digest']}"
    assert (await verified(known, "--expect", noted))[0] == 0
    await run(database, "ALTER TABLE audit_entries DISABLE TRIGGER appended_to")
    await run(database, "UPDATE audit_entries SET object_id = NULL WHERE number = 1")
    await run(database, "ALTER TABLE audit_entries ENABLE TRIGGER appended_to")
    status, told = await verified(known)
    assert (status, told["intact"], told["broken"]) == (1, False, {"number": 1, "reason": "altered"})


async def test_a_key_made_on_the_command_line_is_limited_as_well(known: dict[str, str], database: Database) -> None:
    words = ["keys", "create", "--organization", "movement", "--role", "owner"]
    made = await called(known, *words, "--days", "7", "--network", "192.0.2.0/24", "--per-minute", "60")
    assert made.returncode == 0, made.stderr
    asked = "SELECT networks, requests_per_minute, expires_at < now() + interval '7 days 1 minute' FROM api_keys"
    assert [tuple(row) for row in await run(database, asked)] == [(["192.0.2.0/24"], 60, True)]
    for wrong in (["--days", "366"], ["--network", "here"], ["--network", "192.0.2.1/24"]):
        refused = await called(known, *words, *wrong)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "Traceback" not in refused.stderr


async def test_expectations_that_contradict_each_other_are_refused(known: dict[str, str]) -> None:
    words = ["audit", "verify", "--expect", f"1:{'ab' * 32}", "--expect"]
    refused = await called(known, *words, f"1:{'cd' * 32}")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "two digests for entry 1" in refused.stderr
    assert "two digests" not in (await called(known, *words, f"1:{'AB' * 32}")).stderr
