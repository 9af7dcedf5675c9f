"""OSDI's record_signature_helper: one signature, taken once only, answered in OSDI's shape or refused.

Its sender's identifier is the idempotency key: the same one under the same petition is the same signature, and sent
with other content it is refused. Without an identifier each post is its own.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from app.kit.database.ids import uuid7
from app.kit.problems import Problem, render
from app.kit.web.large_bodies import BodyReservation
from app.partners.adapters.dependencies import PartnerPetition
from app.partners.adapters.osdi import reading, signatures
from app.partners.inbound.idempotency import Webhook
from app.partners.inbound.ingest import ingest
from app.partners.inbound.services import InboundServices
from app.partners.schemas import PartnerSigning


class _Refused(Problem):
    """What became of the only item there was."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(told.get("detail"), errors=told.get("errors", ()))
        self.status = told["status"]
        self.slug = told["type"].rpartition(":")[2]
        self._title = told["title"]

    def body(self, request_id: str) -> bytes:
        return render(self.status, self.slug, self._title, request_id, self.detail, self.errors)


async def record(
    services: InboundServices, found: PartnerPetition, signature: Mapping[str, Any], reservation: BodyReservation
) -> bytes:
    """Record the signature; an `OsdiSignature`, in JSON. A refusal leaves the identifier free.

    Raises the reasons not to accept it, NoSignature, WebhookIdTaken, QueueFull and Unavailable.
    """
    item = signatures.read(found.context, signature)
    if isinstance(item, Problem):
        raise item

    async def recorded(received: Webhook) -> bytes:
        answer = json.loads(await ingest(services, found.organization, received, [item]))
        return _answer(services, found, item, answer["results"][0], received.received_at)

    digest = services.receiver.digest_of(_said(found, signature))
    return await services.receiver.receive(
        found.organization.id, _named(found, signature), digest, recorded, reservation
    )


def _named(found: PartnerPetition, signature: Mapping[str, Any]) -> str:
    known_by = signatures.identifier(signature)
    name = str(uuid7()) if known_by is None else hashlib.sha256(known_by.encode(errors="surrogatepass")).hexdigest()
    return f"osdi:{found.petition.id}:{name}"


def _said(found: PartnerPetition, signature: Mapping[str, Any]) -> bytes:
    """What was said of the signer, as far as it is taken in, and whatever has become of the partner's texts since."""
    said = signatures.read(replace(found.context, asks_in_words=False), signature)
    return b"" if isinstance(said, Problem) else said.model_dump_json().encode()


def _answer(
    services: InboundServices,
    found: PartnerPetition,
    item: PartnerSigning,
    result: Mapping[str, Any],
    received_at: datetime,
) -> bytes:
    if result["status"] == "refused":
        raise _Refused(result["problem"])
    own = result.get("signature_id")
    identifiers = [item.id, own and f"{reading.NAMESPACE}:{own}"]
    signed_at = min(item.signed_at or received_at, received_at)
    return reading.show_signature(
        services.settings, found.petition.slug, list(filter(None, identifiers)), received_at, signed_at
    ).as_bytes()


def wants_no_answer(signature: Mapping[str, Any]) -> bool:
    """Whether its sender asks for an empty one."""
    control = signature.get("osdi:control")
    return isinstance(control, dict) and control.get("return_response") is False
