"""Signatures in the shapes of other systems' webhooks: Action Network's and ControlShift's."""

import hashlib
from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import APIKeyHeader

from app.kit.web.bodies import NotJson
from app.kit.web.large_bodies import BodyReservation, off_loop
from app.partners.adapters import action_network, controlshift
from app.partners.adapters.dependencies import Feeding, by_secret, by_signature, feeding
from app.partners.adapters.parsing import SLOWER, read_object
from app.partners.inbound.idempotency import Received
from app.partners.inbound.ingest import bring
from app.partners.inbound.items import Item
from app.partners.inbound.json_split import MOST_ITEMS
from app.partners.inbound.services import InboundServices, inbound_services
from app.partners.schemas import ReceivedView

JSON = "application/json"

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
async def bring_from_action_network(request: Request, partner: str, petition: str, token: str) -> Response:
    """Take Action Network's webhook in. It can send no header of ours, so its address holds one of the partner's
    secrets. The same keys in the same order are the same webhook."""
    desk = inbound_services(request)
    organization = await by_secret(desk, partner, "action_network", partial(action_network.opened_by, token))
    check_type(request, JSON)
    found = await feeding(desk, organization, petition)
    with desk.bodies.share() as share:
        share.is_of(organization.id)
        body = await desk.bodies.read(request, share)
        keys = await off_loop(len(body) * SLOWER, action_network.keys_of, body)
        items = action_network.read_items(found.frame, body)
        answer = await _received(desk, found, "action_network", keys, items, share)
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
    desk = inbound_services(request)
    with desk.bodies.share() as share:
        organization, body = await by_signature(desk, request, partner, share)
        check_type(request, JSON)
        event = await read_object(body)
        if not controlshift.is_new_signature(event):
            return Response(_NOTHING, media_type=JSON)
        found = await feeding(desk, organization, petition)
        name = (controlshift.identifier(event) or hashlib.sha256(body).hexdigest()).encode(errors="surrogatepass")
        answer = await _received(desk, found, "controlshift", name, [controlshift.read(found.frame, event)], share)
    return Response(answer, media_type=JSON)


async def _received(
    desk: InboundServices, found: Feeding, scheme: str, name: bytes, items: Iterable[Item], share: BodyReservation
) -> bytes:
    """The answer to a webhook that its name alone tells from others: whatever else moves, it is the same again."""

    def brought(received: Received) -> Awaitable[bytes]:
        return bring(desk, found.organization, received, items)

    id_ = f"{scheme}:{found.petition.id}:{hashlib.sha256(name).hexdigest()}"
    digest = await off_loop(len(name), desk.reception.digest_of, name)
    return await desk.reception.receive(found.organization.id, id_, digest, brought, share)


def check_type(request: Request, *allowed: str) -> None:
    """NotJson when the body is announced as anything else."""
    given = request.headers.getlist("content-type")
    if len(given) != 1 or given[0].partition(";")[0].strip().lower() not in allowed:
        raise NotJson
