"""What organizations ask of people, and who has agreed, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Session
from app.kit.problems import Forbidden, Unauthorized
from app.kit.room_interface import services
from app.kit.settings import KIBIBYTE
from app.kit.web.bodies import longest_body
from app.kit.web.caching import cached
from app.organizations import service as organizations
from app.organizations.auth import KEY_OPTIONAL, Caller, staff
from app.organizations.principals import Principal
from app.people import presenters, queries
from app.people.consents import texts
from app.people.dependencies import Ring
from app.people.fields.emails import canonical
from app.people.models import ConsentText, Purpose
from app.people.personal_data import data_rights
from app.people.schemas import (
    ConsentingPersonView,
    ConsentTextBody,
    ConsentTextPaging,
    ConsentTextView,
    ErasureOfBody,
    ErasureView,
)

router = APIRouter(tags=["consents"])

# Seconds. A version never changes; which is the latest may.
_MAX_AGE, _SHARED_MAX_AGE = 5, 10
_Writer = Annotated[Principal, Depends(staff("campaigner", "partner"))]
_DataOfficer = Annotated[Principal, Depends(staff("data_officer"))]
_Reader = Annotated[Principal, Depends(staff("data_officer", "partner"))]


@router.post("/v1/organizations/{organization}/consent-texts", status_code=201)
@longest_body(128 * KIBIBYTE)
async def create_consent_text(
    writer: _Writer, session: Session, organization: str, body: ConsentTextBody
) -> ConsentTextView:
    """Add the next version of what an organization asks; campaigners, and a partner for itself."""
    found = await texts.find_own(session, organization, writer)
    text = await texts.add(session, found, body.purpose, body.locale, body.body)
    return ConsentTextView.model_validate(text)


@router.get(
    "/v1/organizations/{organization}/consent-texts",
    response_model=Page[ConsentTextView],
    openapi_extra=KEY_OPTIONAL,
)
async def list_consent_texts(
    request: Request,
    session: Session,
    caller: Caller,
    organization: str,
    paging: Annotated[ConsentTextPaging, Query()],
) -> Response:
    """What an organization asks now, or (staff, and a partner of itself) all it has ever asked; newest first."""
    if paging.all:
        found = await texts.find_own(session, organization, _reader_of_all(caller))
        query = queries.texts_of(found.id)
    else:
        found = await organizations.find(session, organization)
        query = queries.texts_in_use(found.id)
    page = await page_of(session, query, ConsentText.id, paging, ConsentTextView.model_validate)
    return _told(request, caller, Page[ConsentTextView].model_validate(page).model_dump_json())


def _reader_of_all(caller: Principal | None) -> Principal:
    if caller is None:
        raise Unauthorized
    if not caller.is_staff and caller.role != "partner":
        raise Forbidden
    return caller


@router.get(
    "/v1/organizations/{organization}/consent-texts/{version}",
    response_model=ConsentTextView,
    openapi_extra=KEY_OPTIONAL,
)
async def show_consent_text(
    request: Request,
    session: Session,
    caller: Caller,
    organization: str,
    version: str,
    purpose: Annotated[Purpose, Query()] = "news",
) -> Response:
    """One version of what an organization asks, as people have agreed to it."""
    found = await organizations.find(session, organization)
    text = await texts.find_version(session, found, purpose, version)
    return _told(request, caller, ConsentTextView.model_validate(text).model_dump_json())


def _told(request: Request, caller: Principal | None, body: str) -> Response:
    private = caller is not None
    return cached(request, body.encode(), max_age=_MAX_AGE, shared_max_age=_SHARED_MAX_AGE, private=private)


@router.get("/v1/organizations/{organization}/people")
async def list_people_consenting(
    reader: _Reader,
    session: Session,
    ring: Ring,
    response: Response,
    organization: str,
    paging: Annotated[Paging, Query()],
) -> Page[ConsentingPersonView]:
    """Who has agreed to hear from an organization, and not taken it back; data officers, and a partner of itself."""
    found = await organizations.find(session, organization)
    if not queries.visible_to(reader, found):
        raise organizations.OrganizationNotFound
    response.headers["Cache-Control"] = "no-store"
    return await presenters.page_of_people(session, ring, found, paging)


@router.post("/v1/erasures")
async def erase_person(request: Request, _officer: _DataOfficer, ring: Ring, body: ErasureOfBody) -> ErasureView:
    """Erase whoever has this address, as they could themselves on their own page; the same answer if nobody has."""
    signer = ring.digest(canonical(body.email))
    await data_rights.erase(
        services(request).database, ring, services(request).personal_data(), signer, body.signatures
    )
    return ErasureView()
