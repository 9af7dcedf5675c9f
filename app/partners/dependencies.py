"""Dependencies: who may act for an organization here. It may itself, by its own keys, and the movement's owners may.

A route with a body takes an `Acting` and finds the organization itself: a body that is wrong is told before a path is.
"""

from typing import Annotated

from fastapi import Depends

from app.kit.database.session import Session
from app.organizations import service as organizations
from app.organizations.auth import staff
from app.organizations.models import Organization
from app.organizations.principals import Principal
from app.organizations.service import OrganizationNotFound

# Owners see every organization, a partner its own: to it there is no other.
Acting = Annotated[Principal, Depends(staff("partner"))]


async def own_organization(session: Session, acting: Acting, organization: str) -> Organization:
    """The organization named in the path, whichever it is; OrganizationNotFound."""
    return await organizations.find(session, organization, acting)


async def own_partner(session: Session, acting: Acting, partner: str) -> Organization:
    """The partner named in the path; the movement is none. OrganizationNotFound."""
    found = await organizations.find(session, partner, acting)
    if found.kind != "partner":
        raise OrganizationNotFound
    return found


OwnOrganization = Annotated[Organization, Depends(own_organization, scope="function")]
OwnPartner = Annotated[Organization, Depends(own_partner, scope="function")]
