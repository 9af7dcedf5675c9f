"""What the stories about posting share: a partner that signs with the public library, and what it posts."""

import json
import time
from datetime import UTC, datetime
from itertools import count

import httpx
from standardwebhooks.webhooks import Webhook

from app.kit.webhooks import signing as webhooks
from app.partners.inbound.secrets.service import key_of
from tests.support.factories import person
from tests.support.partners import PETITION, Partner
from tests.support.types import Json

LINES = "application/x-ndjson"
_ids = count(1)


def item(number: int, petition: str = PETITION, **more: object) -> Json:
    """One of many signatures, with an id of the partner's own; what is None is left out."""
    given = {**person(number), "petition": petition, "id": f"crm:{number}", **more}
    return {name: value for name, value in given.items() if value is not None}


def lines(*items: object) -> bytes:
    """NDJSON."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in items)


def fresh_id() -> str:
    return f"msg_{next(_ids)}_{time.time_ns()}"


def signed(secret: str, body: bytes, id_: str | None = None, at: float | None = None) -> dict[str, str]:
    """The headers that the public library writes for this body, `at` this moment."""
    id_, at = id_ or fresh_id(), time.time() if at is None else at
    moment = datetime.fromtimestamp(int(at), UTC)
    signature = Webhook(secret).sign(id_, moment, body.decode())
    return {"webhook-id": id_, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def signed_as_bytes(secret: str, body: bytes, id_: str | None = None) -> dict[str, str]:
    """The same of any bytes, by our own hand: the public library signs nothing but text."""
    id_, timestamp = id_ or fresh_id(), int(time.time())
    signature = webhooks.sign([key_of(secret)], id_, timestamp, body)
    return {"webhook-id": id_, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


class Poster:
    """A partner that posts."""

    def __init__(self, client: httpx.AsyncClient, partner: Partner) -> None:
        self.client = client
        self.partner = partner
        self.url = f"/v1/partners/{partner.slug}/signatures"

    async def send(self, body: bytes, headers: dict[str, str], media_type: str = LINES) -> httpx.Response:
        """Post these bytes with these headers."""
        headers = {"content-type": media_type, **headers}
        return await self.client.post(self.url, content=body, headers=headers, timeout=60)

    async def post(self, body: bytes, media_type: str = LINES, id_: str | None = None) -> httpx.Response:
        """Post these bytes, signed."""
        return await self.send(body, signed(self.partner.secret, body, id_), media_type)

    async def bring(self, *items: object, id_: str | None = None) -> list[Json]:
        """Post these items as lines; a result for each."""
        answer = await self.post(lines(*items), id_=id_)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        results: list[Json] = told["results"]
        assert [result["index"] for result in results] == list(range(len(items)))
        for status in ("counted", "pending", "duplicate", "refused"):
            assert told[status] == sum(result["status"] == status for result in results)
        return results


def problem_slug(result: Json) -> str:
    """Why an item was refused."""
    assert result["status"] == "refused"
    kind: str = result["problem"]["type"]
    return kind.removeprefix("urn:multitude:problem:")
