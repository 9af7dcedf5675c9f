"""Who has agreed to hear from an organization, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from app.kit.database.paging import Page, Paging
from app.kit.database.session import Session
from app.organizations import service as organizations
from app.organizations.audit.declaration import audited
from app.organizations.auth import staff
from app.organizations.principals import Principal
from app.partners.outbound.contacts.listing import page_of_contacts
from app.people import queries
from app.people.dependencies import Ring
from app.people.schemas import ConsentingPersonView

router = APIRouter(tags=["consents"])

_Reader = Annotated[Principal, Depends(staff("data_officer", "partner"))]


@router.get("/v1/organizations/{organization}/people")
@audited("people.look", "organization", category="look")
async def list_people_consenting(
    reader: _Reader,
    session: Session,
    ring: Ring,
    response: Response,
    organization: str,
    paging: Annotated[Paging, Query()],
) -> Page[ConsentingPersonView]:
    """Who has agreed to hear from an organization, with what came with that; data officers, and a partner of itself."""
    found = await organizations.find(session, organization)
    if not queries.visible_to(reader, found):
        raise organizations.OrganizationNotFound
    response.headers["Cache-Control"] = "no-store"
    return await page_of_contacts(session, ring, found, paging)
