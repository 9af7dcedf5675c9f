"""Signatures in the shapes of other systems' webhooks: Action Network's and ControlShift's."""

import hashlib
from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import APIKeyHeader

from app.kit.web.bodies import reads_large_body
from app.kit.web.large_bodies import BodyReservation, off_loop
from app.partners.adapters import action_network, controlshift
from app.partners.adapters.dependencies import (
    JSON,
    PartnerPetition,
    by_secret,
    by_signature,
    check_type,
    partner_petition,
)
from app.partners.adapters.parsing import DECODING_COST, read_object
from app.partners.inbound.idempotency import Webhook
from app.partners.inbound.ingest import ingest
from app.partners.inbound.items import MOST_ITEMS, Item
from app.partners.inbound.services import InboundServices, inbound_services
from app.partners.schemas import ReceivedView

router = APIRouter(tags=["partners"])

_NOTHING = ReceivedView(results=[], counted=0, pending=0, duplicate=0, refused=0).model_dump_json()


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


# No key opens it, and what does stands in the path.
_OF_ACTION_NETWORK = {**_body({"type": "array", "maxItems": MOST_ITEMS, "items": {"type": "object"}}), "security": []}
# Only for the documentation: it would take a header sent twice for one.
_documented = APIKeyHeader(
    name=controlshift.HEADER,
    scheme_name="controlshift",
    description="`sha256:` and the hex of HMAC-SHA256 over the body, made with one of the partner's webhook secrets",
    auto_error=False,
)


@router.post(
    "/v1/partners/{partner}/petitions/{petition}/action-network/{token}",
    response_model=ReceivedView,
    openapi_extra=_OF_ACTION_NETWORK,
)
@reads_large_body
async def bring_from_action_network(request: Request, partner: str, petition: str, token: str) -> Response:
    """Take Action Network's webhook in. It can send no header of ours, so its address holds one of the partner's
    secrets. The same keys in the same order are the same webhook."""
    services = inbound_services(request)
    organization = await by_secret(services, partner, "action_network", partial(action_network.opened_by, token))
    check_type(request, JSON)
    found = await partner_petition(services, organization, petition)
    with services.bodies.reserve() as reservation:
        reservation.assign_to(organization.id)
        body = await services.bodies.read(request, reservation)
        keys = await off_loop(len(body) * DECODING_COST, action_network.keys_of, body)
        items = action_network.read_items(found.context, body)
        answer = await _received(services, found, "action_network", keys, items, reservation)
    return Response(answer, media_type=JSON)


@router.post(
    "/v1/partners/{partner}/petitions/{petition}/controlshift",
    response_model=ReceivedView,
    openapi_extra=_body({"type": "object"}),
)
async def bring_from_controlshift(
    request: Request, partner: str, petition: str, _scheme: Annotated[str | None, Security(_documented)] = None
) -> Response:
    """Take ControlShift's webhook in: `signature.created` is brought, every other type is answered and left."""
    services = inbound_services(request)
    with services.bodies.reserve() as reservation:
        organization, body = await by_signature(services, request, partner, reservation)
        check_type(request, JSON)
        event = await read_object(body)
        if not controlshift.is_new_signature(event):
            return Response(_NOTHING, media_type=JSON)
        found = await partner_petition(services, organization, petition)
        name = (controlshift.identifier(event) or hashlib.sha256(body).hexdigest()).encode(errors="surrogatepass")
        answer = await _received(
            services, found, "controlshift", name, [controlshift.read(found.context, event)], reservation
        )
    return Response(answer, media_type=JSON)


async def _received(
    services: InboundServices,
    found: PartnerPetition,
    scheme: str,
    name: bytes,
    items: Iterable[Item],
    reservation: BodyReservation,
) -> bytes:
    """The answer to a webhook that its name alone tells from others: whatever else moves, it is the same again."""

    def work(webhook: Webhook) -> Awaitable[bytes]:
        return ingest(services, found.organization, webhook, items)

    id_ = f"{scheme}:{found.petition.id}:{hashlib.sha256(name).hexdigest()}"
    digest = await off_loop(len(name), services.receiver.digest_of, name)
    return await services.receiver.receive(found.organization.id, id_, digest, work, reservation)
