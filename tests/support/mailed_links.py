"""Whoever reads the mailbox and follows the link that is mailed about an attempt, over HTTP alone (`attempts.py`)."""

from collections.abc import Iterable
from uuid import UUID

import httpx

from tests.support import attempts
from tests.support.types import Json


def token_of(petition_id: UUID, email: str, attempt: Json | UUID) -> str:
    """The token of the link that is mailed about this attempt: as it was answered, or its id."""
    return attempts.link_of(petition_id, {"email": email}, attempt)


async def link_of(client: httpx.AsyncClient, signed: Json, email: str) -> str:
    """The token of the link that is mailed about what was answered `signed`."""
    petition = (await client.get(signed["links"]["petition"])).json()
    return token_of(UUID(petition["id"]), email, signed)


async def prove(client: httpx.AsyncClient, token: str, consents: Iterable[int] = ()) -> Json:
    """Press the button behind a link, with these consents ticked; the answer, whose receipt is a proven one."""
    answer = await client.post("/v1/confirmations", json={"token": token, "consents": list(consents)})
    assert answer.status_code == 200, answer.text
    confirmed: Json = answer.json()
    return confirmed


async def sign_and_prove(client: httpx.AsyncClient, petition: str, body: Json) -> Json:
    """Sign, follow the mailed link and accept all the consents; the answer to the signing, with the proven receipt."""
    answer = await client.post(f"/v1/petitions/{petition}/signatures", json=body)
    assert answer.status_code == 201, answer.text
    signed: Json = answer.json()
    token = await link_of(client, signed, body["email"])
    confirmed = await prove(client, token, range(len(body.get("consents", []))))
    return signed | {"receipt": confirmed["receipt"]}
