"""Who may act for an organization here: itself, by one of its own keys, and the movement's owners."""

from typing import Annotated

from fastapi import Depends

from app.kit.db import Session
from app.kit.problems import Forbidden, Unauthorized
from app.organizations import service as organizations
from app.organizations.auth import Caller
from app.organizations.models import Organization
from app.organizations.principals import Principal
from app.organizations.service import OrganizationNotFound


async def _acting_for(session: Session, caller: Principal | None, ref: str) -> Organization:
    """The organization this principal may act for; a partner is told nothing of others. Unauthorized, Forbidden,
    OrganizationNotFound."""
    if caller is None:
        raise Unauthorized
    if caller.role not in {"owner", "partner"}:
        raise Forbidden
    found = await organizations.find(session, ref)
    if caller.role == "partner" and caller.organization_id != found.id:
        raise OrganizationNotFound
    return found


async def own_organization(session: Session, caller: Caller, organization: str) -> Organization:
    """The organization named in the path, whichever it is."""
    return await _acting_for(session, caller, organization)


async def own_partner(session: Session, caller: Caller, partner: str) -> Organization:
    """The partner named in the path; the movement is none."""
    found = await _acting_for(session, caller, partner)
    if found.kind != "partner":
        raise OrganizationNotFound
    return found


OwnOrganization = Annotated[Organization, Depends(own_organization, scope="function")]
OwnPartner = Annotated[Organization, Depends(own_partner, scope="function")]
