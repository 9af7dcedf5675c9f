"""Attempts in somebody's name: made by whoever types the address, proven by whoever reads the mailbox."""

from collections.abc import Iterable
from uuid import UUID

import httpx

from app.kit.clock import now
from app.people.fields.emails import canonical
from app.signatures.signing.sealing import write_link
from tests.support.settings import RING
from tests.support.types import Json


def signer_of(body: Json) -> bytes:
    """The key of the person whose address this is."""
    return RING.digest(canonical(body["email"]))


def link_of(petition_id: UUID, body: Json, id_: UUID | str) -> str:
    """The token of the link that this attempt's mail would hold."""
    return write_link(RING, petition_id, signer_of(body), UUID(str(id_)), now())


async def prove(
    client: httpx.AsyncClient, petition_id: UUID, body: Json, id_: UUID | str, *, accepting: Iterable[int] = ()
) -> str:
    """Follow the link of this attempt and press its button with these boxes ticked; the proven receipt."""
    given = {"token": link_of(petition_id, body, id_), "consents": list(accepting)}
    answer = await client.post("/v1/confirmations", json=given)
    assert answer.status_code == 200, answer.text
    receipt: str = answer.json()["receipt"]
    return receipt
