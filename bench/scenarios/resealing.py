"""Bringing everything that is sealed under a new key."""

import asyncio
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.signatures.signing.sealing import Personal, seal
from bench.background import signing
from bench.rows import Row, at_most
from bench.scenarios import Bench
from bench.scenarios.counting import SIGNERS_PER_SECOND
from bench.servers import ours, running
from tests.support.postgres import SqlDatabase
from tests.support.services import environment, multitude

_MARKED = 1_000_000
_CHUNK = 100_000
_COLUMNS = ("petition_id", "signer", "id", "signed_at", "country", "state", "region", "source", "sealed")


def _row(ring: KeyRing, petition_id: UUID, number: int) -> tuple[Any, ...]:
    signer = os.urandom(16)
    personal = Personal("Amina", "Okello", f"person.{number}@example.org", "KLA 256", "en")
    sealed = seal(ring, petition_id, signer, personal)
    return (petition_id, signer, uuid7(), datetime.now(UTC), "UG", "confirmed", "", "", sealed)


async def _copy(database: SqlDatabase, ring: KeyRing, rows: int, say: Callable[[str], None]) -> None:
    """So many signatures of petition `p0`, really sealed. They are not tallied: nothing here looks at tallies."""
    connection = await asyncpg.connect(database.url)
    petition_id = await connection.fetchval("SELECT id FROM petitions WHERE slug = 'p0'")
    for first in range(0, rows, _CHUNK):
        say(f"sealing {rows:,} signatures: {first:,} so far")
        records = [_row(ring, petition_id, number) for number in range(first, min(first + _CHUNK, rows))]
        await connection.copy_records_to_table("signatures", records=records, columns=_COLUMNS)
    await connection.execute("VACUUM (ANALYZE) signatures")
    await connection.execute("CHECKPOINT")
    await connection.close()


def _rotate(bench: Bench, settings: Mapping[str, str]) -> tuple[float, dict[str, Any]]:
    """(seconds, what the command told)."""
    began = time.monotonic()
    done = subprocess.run(
        multitude("keys", "rotate-encryption", "--json"),
        env=environment(**settings),
        cwd=bench.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the rotation ended with status {done.returncode}:\n{done.stderr}{done.stdout}")
    return time.monotonic() - began, json.loads(done.stdout)


def _left(database: SqlDatabase, new: str) -> int:
    """How many rows the new key alone does not stand on, whatever the command told."""
    newest = KeyRing.parse(new).current_id
    return int(database.value("SELECT count(*) FROM signatures WHERE substring(sealed FROM 1 FOR 2) <> $1", newest))


def resealing(bench: Bench) -> Iterator[Row]:
    """`multitude keys rotate-encryption` over a petition that was signed under an older key, and is still signed."""
    rows, new = min(bench.big, _MARKED), secrets.token_hex(32)
    with bench.services.database("resealed") as database:
        asyncio.run(_copy(database, KeyRing.parse(bench.services.secret), rows, bench.say))
        before = database.value("SELECT pg_total_relation_size('signatures')") / rows
        settings = bench.services.settings(database) | {"MULTITUDE_SECRET_KEYS": f"{new},{bench.services.secret}"}
        bench.say(f"re-sealing {rows:,} rows")
        with running(ours(bench.folder, **settings)) as server, signing(server.url, "p0", SIGNERS_PER_SECOND):
            seconds, told = _rotate(bench, settings)
        everybody = database.value("SELECT count(*) FROM signatures")
        after = database.value("SELECT pg_total_relation_size('signatures')") / everybody
        left = _left(database, new) + rows - told["resealed"]
    what = f"re-sealing {rows:,} rows, while {SIGNERS_PER_SECOND}/s sign"
    note = f"{rows / seconds:,.0f} rows/s; {before:.0f} bytes per row before, {after:.0f} after"
    yield Row(f"{what}: time", seconds, "s", at_most(120), note)
    yield Row(f"{what}: left under the old key", left, "", at_most(0), f"{everybody:,} signatures are there")
