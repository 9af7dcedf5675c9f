"""Signatures that partners post, by Standard Webhooks."""

from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import APIKeyHeader

from app.kit.web.bodies import reads_large_body
from app.kit.web.large_bodies import BodyReservation, off_loop
from app.kit.webhooks import signing as webhooks
from app.organizations.models import Organization
from app.partners.inbound.idempotency import Work
from app.partners.inbound.ingest import ingest
from app.partners.inbound.items import MOST_ITEMS, read_items
from app.partners.inbound.services import InboundServices, inbound_services
from app.partners.inbound.verification import JSON, LINES, verify
from app.partners.schemas import PartnerSigning, ReceivedView

# Only for the documentation: `verification.py` reads all three headers.
_documented = APIKeyHeader(
    name=webhooks.SIGNATURE,
    scheme_name="webhook",
    description="Standard Webhooks: `v1,` and the base64 of HMAC-SHA256 over "
    "`{webhook-id}.{webhook-timestamp}.{body}` with one of the partner's webhook secrets; several, separated by spaces",
    auto_error=False,
)
_ONE = {"$ref": f"#/components/schemas/{PartnerSigning.__name__}"}
_DESCRIBED: dict[str, Any] = {
    "parameters": [
        {
            "name": webhooks.ID,
            "in": "header",
            "required": True,
            "description": "yours; the same again gets the same answer and counts nothing, for 30 days",
            "schema": {"type": "string", "minLength": 1, "maxLength": webhooks.LONGEST_ID, "pattern": "^[!-~]*$"},
        },
        {
            "name": webhooks.TIMESTAMP,
            "in": "header",
            "required": True,
            "description": f"seconds since 1970, not more than {webhooks.TOLERANCE} from now",
            "schema": {"type": "integer", "minimum": 0},
        },
        {
            "name": "content-encoding",
            "in": "header",
            "description": "the signature is over the body as it is sent; over what is packed will do too",
            "schema": {"type": "string", "enum": ["gzip"]},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {"oneOf": [_ONE, {"type": "array", "items": _ONE, "minItems": 1, "maxItems": MOST_ITEMS}]}
            },
            LINES: {"schema": {"type": "string", "description": "one signature in each line, as JSON"}},
            "application/jsonl": {"schema": {"type": "string", "description": "the same"}},
        },
    },
}

router = APIRouter(tags=["partners"])


class _Received(NamedTuple):
    """What came in. Its body is gone as soon as its items have been read."""

    organization: Organization
    id: str
    digest: bytes
    work: Work


@router.post("/v1/partners/{partner}/signatures", response_model=ReceivedView, openapi_extra=_DESCRIBED)
@reads_large_body
async def bring_signatures(
    request: Request, partner: str, _scheme: Annotated[str | None, Security(_documented)] = None
) -> Response:
    """Bring one signature, an array, or a line for each (NDJSON); up to 10,000. One result for each, in order.

    An item's fault costs no other item. The answer comes when everything is committed.
    """
    services = inbound_services(request)
    with services.bodies.reserve() as reservation:
        received = await _received(services, request, partner, reservation)
        id_ = f"standard:{received.id}"
        answer = await services.receiver.receive(
            received.organization.id, id_, received.digest, received.work, reservation
        )
    return Response(answer, media_type=JSON)


async def _received(
    services: InboundServices, request: Request, partner: str, reservation: BodyReservation
) -> _Received:
    organization, id_, body, lines = await verify(services, request, partner, reservation)
    digest = await off_loop(len(body), services.receiver.digest_of, body)
    items = read_items(body, lines=lines)
    return _Received(organization, id_, digest, lambda webhook: ingest(services, organization, webhook, items))
