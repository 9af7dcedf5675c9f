"""Attempts in somebody's name: made by whoever types the address, proven by whoever reads the mailbox."""

from collections.abc import Iterable
from uuid import UUID

import httpx

from app.kit.clock import now
from app.kit.database.session import Database
from app.people.fields.emails import canonical
from app.people.pseudonyms import own_signature_id, signature_id
from app.signatures.signing.sealing import read_receipt, write_link
from tests.support.databases import run
from tests.support.settings import RING
from tests.support.types import Json


def signer_of(body: Json) -> bytes:
    """The key of the person whose address this is."""
    return RING.digest(canonical(body["email"]))


def attempt_id(petition_id: UUID, attempt: Json | UUID | str) -> UUID:
    """The id in the database of an attempt that was answered so: its receipt holds it, sealed; or of an id, itself."""
    if isinstance(attempt, dict):
        return read_receipt(RING, petition_id, attempt["receipt"]).id
    return UUID(str(attempt))


def own_id(id_: UUID) -> str:
    """What a signer is told as the id of an attempt."""
    return own_signature_id(RING, id_)


def told_id(organization_id: UUID, id_: UUID) -> str:
    """What an organization is told as the id of an attempt."""
    return signature_id(RING, organization_id, id_)


async def brought_id(database: Database, organization_id: UUID, told: str) -> UUID:
    """The id in the database of an attempt of which an organization was told so."""
    rows = await run(database, "SELECT id FROM signatures UNION ALL SELECT id FROM signature_attempts")
    (id_,) = [row.id for row in rows if told_id(organization_id, row.id) == told]
    assert isinstance(id_, UUID)
    return id_


def link_of(petition_id: UUID, body: Json, attempt: Json | UUID | str) -> str:
    """The token of the link that this attempt's mail would hold; the attempt as it was answered, or its id."""
    return write_link(RING, petition_id, signer_of(body), attempt_id(petition_id, attempt), now())


async def prove(
    client: httpx.AsyncClient,
    petition_id: UUID,
    body: Json,
    attempt: Json | UUID | str,
    *,
    accepting: Iterable[int] = (),
) -> str:
    """Follow the link of this attempt and press its button with these boxes ticked; the proven receipt."""
    given = {"token": link_of(petition_id, body, attempt), "consents": list(accepting)}
    answer = await client.post("/v1/confirmations", json=given)
    assert answer.status_code == 200, answer.text
    receipt: str = answer.json()["receipt"]
    return receipt
