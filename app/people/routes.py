"""What organizations ask of people, and who has agreed, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.kit.database.paging import Page, page_of
from app.kit.database.session import Session
from app.kit.problems import Forbidden, Unauthorized
from app.kit.room_interface import services
from app.kit.settings import KIBIBYTE
from app.kit.web.bodies import longest_body
from app.kit.web.caching import cached
from app.organizations import service as organizations
from app.organizations.audit.declaration import audited
from app.organizations.auth import KEY_OPTIONAL, Caller, staff
from app.organizations.pending_acts.responses import MAY_WAIT
from app.organizations.principals import Principal
from app.people import queries
from app.people.consents import texts
from app.people.dependencies import Ring
from app.people.fields.emails import canonical
from app.people.models import ConsentText, Purpose
from app.people.personal_data import data_rights, erasing_others
from app.people.schemas import (
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


@router.post("/v1/organizations/{organization}/consent-texts", status_code=201)
@audited("consent_text.create")
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


@router.post("/v1/erasures", response_model=ErasureView, responses=MAY_WAIT)
@audited(erasing_others.ERASE, category="destruction")
async def erase_person(
    request: Request, officer: _DataOfficer, session: Session, ring: Ring, body: ErasureOfBody
) -> ErasureView | Response:
    """Erase whoever has this address, as they could themselves on their own page; the same answer if nobody has.

    From the sixth within 24 hours on it waits a day, or for a second person's word.
    """
    signer = ring.digest(canonical(body.email))
    if await erasing_others.must_wait(session, officer):
        return await erasing_others.ask_to_erase(session, officer, signer, body.signatures)
    await data_rights.erase_in(session, ring, services(request).personal_data(), signer, body.signatures)
    return ErasureView()
