"""OSDI: petitions to read, and the helper that records a signature."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, Security
from fastapi.security import APIKeyHeader

from app.kit.database.session import Session
from app.kit.room_interface import services
from app.kit.settings import KIBIBYTE
from app.kit.web.bodies import longest_body
from app.kit.web.caching import cached
from app.partners.adapters.dependencies import JSON, TOKEN, by_token, check_type, partner_petition
from app.partners.adapters.osdi import reading, recording
from app.partners.adapters.osdi.schemas import (
    MEDIA_TYPE,
    Hal,
    HalResponse,
    OsdiEntryPoint,
    OsdiPaging,
    OsdiPetition,
    OsdiPetitions,
    OsdiSignature,
    OsdiSigning,
)
from app.partners.adapters.parsing import read_object
from app.partners.inbound.services import inbound_services
from app.partners.settings import PartnerSettings
from app.petitions import service as petitions
from app.signatures.reading.counts import Counts
from app.signatures.services import SigningServices

router = APIRouter(tags=["partners"])

# Only for the documentation: it would take a header sent twice for one.
_documented = APIKeyHeader(
    name=TOKEN, scheme_name="osdi", description="A partner's key (`mtd_partner_<secret>`)", auto_error=False
)
_SIGNING = {"schema": OsdiSigning.model_json_schema()}
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {JSON: _SIGNING, MEDIA_TYPE: _SIGNING}}}

# Seconds, as for petitions in our own shape.
_MAX_AGE, _SHARED_MAX_AGE = 5, 10


def _settings(request: Request) -> PartnerSettings:
    return services(request).settings_as(PartnerSettings)


def _counts(request: Request) -> Counts:
    return services(request).of(SigningServices).counts


def _told(request: Request, resource: Hal) -> Response:
    return cached(
        request,
        resource.as_bytes(),
        max_age=_MAX_AGE,
        shared_max_age=_SHARED_MAX_AGE,
        headers={"Content-Type": MEDIA_TYPE},
    )


@router.get("/v1/osdi", response_model=OsdiEntryPoint, response_class=HalResponse)
async def show_osdi_entry_point(request: Request) -> Response:
    """OSDI's entry point: what is offered in its shapes."""
    return _told(request, reading.entry_point(_settings(request)))


@router.get("/v1/osdi/petitions", response_model=OsdiPetitions, response_class=HalResponse)
async def list_osdi_petitions(request: Request, session: Session, paging: Annotated[OsdiPaging, Query()]) -> Response:
    """The petitions everybody may see, newest first, in OSDI's shape. Follow `_links.next`."""
    shown = await reading.show_petitions(session, _settings(request), _counts(request), paging)
    return _told(request, shown)


@router.get("/v1/osdi/petitions/{petition}", response_model=OsdiPetition, response_class=HalResponse)
async def show_osdi_petition(request: Request, session: Session, petition: str) -> Response:
    """One petition and its total, in OSDI's shape."""
    found = await petitions.find(session, petition, None)
    return _told(request, await reading.show_petition(_settings(request), _counts(request), found))


@router.post(
    "/v1/osdi/petitions/{petition}/record_signature_helper",
    response_model=OsdiSignature,
    response_class=HalResponse,
    openapi_extra=_BODY,
)
@longest_body(64 * KIBIBYTE)
async def record_osdi_signature(
    request: Request, petition: str, _scheme: Annotated[str | None, Security(_documented)] = None
) -> Response:
    """Record a signature with OSDI's helper. The same identifier under the same petition is the same signature: it is
    answered alike and counted once. With `osdi:control.return_response` false the answer is `{}`."""
    services = inbound_services(request)
    organization = await by_token(services, request)
    check_type(request, JSON, MEDIA_TYPE)
    with services.bodies.reserve() as reservation:
        reservation.assign_to(organization.id)
        signature = await read_object(await services.bodies.read(request, reservation))
        answer = await recording.record(
            services, await partner_petition(services, organization, petition), signature, reservation
        )
    return Response(b"{}" if recording.wants_no_answer(signature) else answer, media_type=MEDIA_TYPE)
