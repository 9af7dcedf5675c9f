"""Signatures that wait for their confirmation, copied into the database as signing and mailing would leave them."""

import asyncio
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from app.kit.crypto.sealing import KeyRing
from app.kit.database.ids import uuid7
from app.people.fields import emails
from app.signatures.signing import email_domains
from app.signatures.signing.sealing import Personal, seal, write_link
from bench.service import MAILED
from tests.support.postgres import SqlDatabase

LOCALES = ("en", "fr", "es", "de", "ar")
_COUNTRIES = ("GB", "FR", "ES", "US", "DE", "UG", "KE")
_CHUNK = 50_000
_COLUMNS = (
    *("petition_id", "signer", "id", "signed_at", "country", "state", "region", "source", "sealed"),
    *("domain_digest", "mail_due_at", "mail_since", "due_mail", "mail_count"),
)
# As much as a sealed person with a postal code and a locale takes; nobody opens it.
_SEALED_BYTES = 80


def address(number: int) -> str:
    """Whom the mail about this signature goes to."""
    return f"person.{number}@example.org"


def plant_mailed(
    database: SqlDatabase, ring: KeyRing, path: Path, signature_count: int, say: Callable[[str], None]
) -> None:
    """Signatures of petition `mailed` whose mail was sent, and a file of the tokens in these mails, one on a line."""
    with path.open("w", encoding="ascii") as tokens:

        def row(petition_id: UUID, number: int) -> tuple[Any, ...]:
            signer, id_, moment = os.urandom(16), uuid7(), datetime.now(UTC)
            tokens.write(write_link(ring, petition_id, signer, id_, moment) + "\n")
            sealed, digest = os.urandom(_SEALED_BYTES), os.urandom(8)
            return (*_facts(petition_id, signer, id_, moment, number), sealed, digest, None, None, None, 1)

        asyncio.run(_plant(database, signature_count, row, say))


def plant_due(database: SqlDatabase, ring: KeyRing, signature_count: int, say: Callable[[str], None]) -> None:
    """Signatures of petition `mailed`, really sealed, whose mail is due; in every locale there are texts in."""

    def row(petition_id: UUID, number: int) -> tuple[Any, ...]:
        canonical = emails.canonical(address(number))
        signer, moment = ring.digest(canonical), datetime.now(UTC)
        personal = Personal("Amina", "Okello", address(number), "KLA 256", LOCALES[number % len(LOCALES)])
        digest = email_domains.digest(ring, email_domains.domain_of(canonical))
        sealed = seal(ring, petition_id, signer, personal)
        facts = _facts(petition_id, signer, uuid7(), moment, number)
        return (*facts, sealed, digest, moment, moment, "confirm_signature", None)

    asyncio.run(_plant(database, signature_count, row, say))


def _facts(petition_id: UUID, signer: bytes, id_: UUID, moment: datetime, number: int) -> tuple[Any, ...]:
    return (petition_id, signer, id_, moment, _COUNTRIES[number % len(_COUNTRIES)], "pending", "", "")


async def _plant(
    database: SqlDatabase, signature_count: int, row: Callable[[UUID, int], tuple[Any, ...]], say: Callable[[str], None]
) -> None:
    connection = await asyncpg.connect(database.url)
    petition_id = await connection.fetchval("SELECT id FROM petitions WHERE slug = $1", MAILED)
    for numbers in _chunks(signature_count):
        say(f"making {signature_count:,} pending signatures: {numbers.start:,} so far")
        records = [row(petition_id, number) for number in numbers]
        await connection.copy_records_to_table("signatures", records=records, columns=_COLUMNS)
    await connection.execute("VACUUM (ANALYZE) signatures")
    await connection.execute("CHECKPOINT")
    await connection.close()


def _chunks(count: int) -> Iterator[range]:
    for first in range(0, count, _CHUNK):
        yield range(first, min(first + _CHUNK, count))
