"""Organizations and their keys over HTTP, for owners; other staff may look at them, partners rotate their own keys."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Session
from app.kit.problems import Forbidden
from app.kit.room_interface import services
from app.kit.text.fields import as_id
from app.organizations import queries, service
from app.organizations.audit.declaration import audited
from app.organizations.auth import AnyStaff, Owner, staff
from app.organizations.models import ApiKey, Organization
from app.organizations.principals import STAFF_ROLES, Principal
from app.organizations.schemas import (
    ApiKeyBody,
    ApiKeyView,
    NewApiKeyView,
    OrganizationBody,
    OrganizationChanges,
    OrganizationView,
)
from app.organizations.service import KeyLimits
from app.organizations.settings import OrganizationSettings

router = APIRouter(tags=["organizations"])

# Owners see every organization, a partner its own: to it there is no other.
_KeyHolder = Annotated[Principal, Depends(staff("partner"))]
_AnyKeyHolder = Annotated[Principal, Depends(staff(*STAFF_ROLES, "partner"))]


@router.post("/v1/organizations", status_code=201)
@audited("organization.create")
async def create_organization(_owner: Owner, session: Session, body: OrganizationBody) -> OrganizationView:
    """Add a partner organization."""
    organization = await service.create_organization(session, body.slug, body.name)
    return OrganizationView.model_validate(organization)


@router.get("/v1/organizations", response_model=Page[OrganizationView])
async def list_organizations(staff: AnyStaff, session: Session, paging: Annotated[Paging, Query()]) -> dict[str, Any]:
    """The movement and its partners."""
    query = queries.visible_to(staff)
    return await page_of(session, query, Organization.id, paging, OrganizationView.model_validate)


@router.get("/v1/organizations/{organization}")
async def show_organization(_staff: AnyStaff, session: Session, organization: str) -> OrganizationView:
    """One organization."""
    return OrganizationView.model_validate(await service.find(session, organization))


@router.patch("/v1/organizations/{organization}")
@audited("organization.change")
async def change_organization(
    _owner: Owner, session: Session, organization: str, body: OrganizationChanges
) -> OrganizationView:
    """Rename an organization."""
    found = await service.find(session, organization)
    await service.rename(session, found, body.name)
    return OrganizationView.model_validate(found)


@router.post("/v1/organizations/{organization}/api-keys", status_code=201)
@audited("api_key.create")
async def create_api_key(
    request: Request, holder: _KeyHolder, session: Session, response: Response, organization: str, body: ApiKeyBody
) -> NewApiKeyView:
    """Make a key; owners, and a partner for itself. It ends with the key it is made with. Shown this once."""
    found = await service.find(session, organization, holder)
    api_key, key = await service.create_key(
        session,
        found,
        body.role,
        body.label,
        body.expires_at,
        limits=KeyLimits(body.networks, body.requests_per_minute),
        maker=holder,
        longest=services(request).settings_as(OrganizationSettings).key_longest_life,
    )
    return _shown_once(response, api_key, key)


def _shown_once(response: Response, api_key: ApiKey, key: str) -> NewApiKeyView:
    response.headers["Cache-Control"] = "no-store"
    return NewApiKeyView(**ApiKeyView.model_validate(api_key).model_dump(), key=key)


@router.post("/v1/organizations/{organization}/api-keys/{api_key}/rotate")
@audited("api_key.rotate")
async def rotate_api_key(
    holder: _AnyKeyHolder, session: Session, response: Response, organization: str, api_key: str
) -> NewApiKeyView:
    """A fresh text for the very key that asks; the former works no more. It ends when it would have."""
    found = await service.find(session, organization, holder)
    if as_id(api_key) != holder.key_id:
        raise Forbidden("A key can be rotated by itself alone.")
    return _shown_once(response, *await service.rotate_key(session, found, holder.key_id))


@router.get("/v1/organizations/{organization}/api-keys", response_model=Page[ApiKeyView])
async def list_api_keys(
    holder: _KeyHolder, session: Session, organization: str, paging: Annotated[Paging, Query()]
) -> dict[str, Any]:
    """An organization's keys, ended ones included; owners, and a partner of itself."""
    found = await service.find(session, organization, holder)
    return await page_of(session, queries.keys_of(found.id), ApiKey.id, paging, ApiKeyView.model_validate)


@router.delete("/v1/organizations/{organization}/api-keys/{api_key}", status_code=204)
@audited("api_key.end")
async def revoke_api_key(holder: _KeyHolder, session: Session, organization: str, api_key: str) -> None:
    """End a key and all keys made with it, at once; owners, and a partner for itself. Harmless to repeat."""
    found = await service.find(session, organization, holder)
    key_id = as_id(api_key)
    if key_id is None:
        raise service.ApiKeyNotFound
    await service.revoke_key(session, found, key_id)
