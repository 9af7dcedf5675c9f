"""Partnerships over HTTP: campaigners invite, partners answer, both may end."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from app.campaigns import service as campaigns
from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Session
from app.kit.problems import Forbidden, Unauthorized
from app.kit.settings import KIBIBYTE
from app.kit.web.bodies import longest_body
from app.organizations import service as organizations
from app.organizations.audit.declaration import audited
from app.organizations.auth import AnyStaff, Caller, Campaigner, for_roles, staff
from app.organizations.principals import STAFF_ROLES, Principal
from app.partners.models import Partnership
from app.partners.partnerships import queries, service
from app.partners.partnerships.schemas import InvitationBody, PartnershipView

router = APIRouter(tags=["partners"])

_Reader = Annotated[Principal, Depends(staff(*STAFF_ROLES, "partner"))]
_Ending = Annotated[Principal, Depends(staff("campaigner", "partner"))]


@for_roles("partner")
async def _partner(caller: Caller) -> Principal:
    """Somebody of a partner, and of nobody else: the movement does not accept in a partner's name."""
    if caller is None:
        raise Unauthorized
    if caller.role != "partner":
        raise Forbidden
    return caller


_Answering = Annotated[Principal, Depends(_partner)]


@router.post("/v1/campaigns/{campaign}/partnerships", status_code=201)
@audited("partnership.invite")
@longest_body(256 * KIBIBYTE)
async def invite_partner(
    campaigner: Campaigner, session: Session, campaign: str, body: InvitationBody
) -> PartnershipView:
    """Invite a partner to a campaign under written terms."""
    found = await campaigns.find(session, campaign, campaigner)
    return await _view(session, await service.invite(session, found, campaigner, body))


@router.get("/v1/campaigns/{campaign}/partnerships")
async def list_partnerships_of_campaign(
    reader: AnyStaff, session: Session, campaign: str, paging: Annotated[Paging, Query()]
) -> Page[PartnershipView]:
    """A campaign's partnerships and invitations, those that are over included."""
    found = await campaigns.find(session, campaign, reader)
    query = queries.visible_to(reader).where(Partnership.campaign_id == found.id)
    return await _page(session, await page_of(session, query, Partnership.id, paging, _itself))


@router.get("/v1/partners/{partner}/partnerships")
async def list_partnerships_of_partner(
    reader: _Reader, session: Session, partner: str, paging: Annotated[Paging, Query()]
) -> Page[PartnershipView]:
    """A partner's partnerships and invitations, those that are over included; staff, and the partner itself."""
    found = await organizations.find(session, partner, reader)
    query = queries.visible_to(reader).where(Partnership.organization_id == found.id)
    return await _page(session, await page_of(session, query, Partnership.id, paging, _itself))


@router.get("/v1/partnerships/{partnership}")
async def show_partnership(reader: _Reader, session: Session, partnership: str) -> PartnershipView:
    """One partnership with its terms; staff, and the partner whose it is."""
    return await _view(session, await service.find(session, partnership, reader))


@router.post("/v1/partnerships/{partnership}/accept")
@audited("partnership.accept")
async def accept_invitation(partner: _Answering, session: Session, partnership: str) -> PartnershipView:
    """Agree to the terms, by a key of the partner itself. Former terms for the same campaign end at this moment."""
    return await _view(session, await service.accept(session, partnership, partner))


@router.post("/v1/partnerships/{partnership}/decline")
@audited("partnership.decline")
async def decline_invitation(partner: _Answering, session: Session, partnership: str) -> PartnershipView:
    """Turn an invitation down, by a key of the partner itself."""
    return await _view(session, await service.decline(session, partnership, partner))


@router.post("/v1/partnerships/{partnership}/end")
@audited("partnership.end")
async def end_partnership(ending: _Ending, session: Session, partnership: str) -> PartnershipView:
    """End a partnership, or take an invitation back; campaigners, and the partner whose it is."""
    return await _view(session, await service.end(session, partnership, ending))


async def _page(session: Session, page: dict[str, Any]) -> Page[PartnershipView]:
    return Page(items=await _views(session, page["items"]), next_cursor=page["next_cursor"])


def _itself(partnership: Partnership) -> Partnership:
    return partnership


async def _view(session: Session, partnership: Partnership) -> PartnershipView:
    return (await _views(session, [partnership]))[0]


async def _views(session: Session, partnerships: Sequence[Partnership]) -> list[PartnershipView]:
    campaign = await queries.campaign_slugs(session, {one.campaign_id for one in partnerships})
    organization = await queries.organization_slugs(session, {one.organization_id for one in partnerships})
    return [_shown(one, campaign[one.campaign_id], organization[one.organization_id]) for one in partnerships]


def _shown(partnership: Partnership, campaign: str, organization: str) -> PartnershipView:
    own = {name: getattr(partnership, name) for name in PartnershipView.model_fields if hasattr(partnership, name)}
    return PartnershipView(**own, campaign=campaign, organization=organization)
