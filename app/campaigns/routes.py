"""Campaigns over HTTP: everybody reads, campaigners write."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from app.campaigns import queries, service
from app.campaigns.models import Campaign, CampaignUpdate
from app.campaigns.schemas import (
    CampaignBody,
    CampaignChanges,
    CampaignPaging,
    CampaignView,
    Targets,
    TargetView,
    UpdateBody,
    UpdateView,
    WholeCampaignView,
    campaign_view,
    whole_campaign_view,
)
from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Session
from app.kit.settings import KIBIBYTE
from app.kit.web.bodies import longest_body
from app.kit.web.caching import cached
from app.organizations.audit.declaration import audited
from app.organizations.auth import KEY_OPTIONAL, Caller, Campaigner
from app.organizations.pending_acts.responses import MAY_WAIT, Accepted
from app.organizations.pending_acts.service import Asked, ask
from app.organizations.principals import Principal

router = APIRouter(tags=["campaigns"])

ARCHIVE = "campaign.archive"
# Seconds for which a reader, and a shared cache, may keep a campaign.
_MAX_AGE, _SHARED_MAX_AGE = 30, 60


def _answer(request: Request, view: BaseModel, caller: Principal | None) -> Response:
    return cached(
        request,
        view.model_dump_json().encode(),
        max_age=_MAX_AGE,
        shared_max_age=_SHARED_MAX_AGE,
        private=caller is not None,
    )


async def _whole(session: Session, campaign: Campaign) -> WholeCampaignView:
    targets = await queries.targets_of(session, campaign.id)
    return whole_campaign_view(campaign, targets, await queries.newest_updates_of(session, campaign.id))


@router.post("/v1/campaigns", status_code=201)
@audited("campaign.create")
@longest_body(512 * KIBIBYTE)
async def create_campaign(_staff: Campaigner, session: Session, body: CampaignBody) -> WholeCampaignView:
    """Start a campaign, or draft one."""
    return await _whole(session, await service.create_campaign(session, body))


@router.get("/v1/campaigns", response_model=Page[CampaignView], openapi_extra=KEY_OPTIONAL)
async def list_campaigns(
    request: Request, caller: Caller, session: Session, paging: Annotated[CampaignPaging, Query()]
) -> Response:
    """Campaigns, newest first. Only staff see drafts."""
    query = queries.visible_to(caller)
    if paging.state is not None:
        query = query.where(Campaign.state == paging.state)
    page = await page_of(session, query, Campaign.id, paging, campaign_view)
    return _answer(request, Page[CampaignView](**page), caller)


@router.get("/v1/campaigns/{campaign}", response_model=WholeCampaignView, openapi_extra=KEY_OPTIONAL)
async def show_campaign(request: Request, caller: Caller, session: Session, campaign: str) -> Response:
    """One campaign with its targets and its newest updates."""
    found = await service.find(session, campaign, caller)
    return _answer(request, await _whole(session, found), caller)


@router.patch("/v1/campaigns/{campaign}", response_model=WholeCampaignView, responses=MAY_WAIT)
@audited("campaign.change")
@longest_body(256 * KIBIBYTE)
async def change_campaign(
    staff: Campaigner, session: Session, campaign: str, body: CampaignChanges
) -> WholeCampaignView | Response:
    """Change a campaign: its words, its goal, its state, its outcome. Archiving waits, the rest is done at once."""
    found, archives = await service.change_campaign(session, campaign, staff, body)
    if archives:
        return Accepted(await ask(session, staff, Asked(ARCHIVE, "campaign", ("owner", "campaigner"), found.id)))
    return await _whole(session, found)


@router.put("/v1/campaigns/{campaign}/targets")
@audited("campaign.replace_targets")
@longest_body(512 * KIBIBYTE)
async def replace_campaign_targets(
    staff: Campaigner, session: Session, campaign: str, body: Targets
) -> list[TargetView]:
    """Replace those the campaign aims at."""
    targets = await service.replace_targets(session, campaign, staff, body)
    return [TargetView.model_validate(target) for target in targets]


@router.post("/v1/campaigns/{campaign}/updates", status_code=201)
@audited("campaign.add_update")
@longest_body(128 * KIBIBYTE)
async def add_campaign_update(staff: Campaigner, session: Session, campaign: str, body: UpdateBody) -> UpdateView:
    """Tell news of a campaign."""
    found = await service.find(session, campaign, staff)
    return UpdateView.model_validate(await service.add_update(session, found, body))


@router.get("/v1/campaigns/{campaign}/updates", response_model=Page[UpdateView], openapi_extra=KEY_OPTIONAL)
async def list_campaign_updates(
    request: Request,
    caller: Caller,
    session: Session,
    campaign: str,
    paging: Annotated[Paging, Query()],
) -> Response:
    """A campaign's updates, the last written first."""
    found = await service.find(session, campaign, caller)
    query = queries.updates_of(found.id)
    page = await page_of(session, query, CampaignUpdate.id, paging, UpdateView.model_validate)
    return _answer(request, Page[UpdateView](**page), caller)


@router.delete("/v1/campaigns/{campaign}/updates/{update}", status_code=204)
@audited("campaign.delete_update")
async def delete_campaign_update(staff: Campaigner, session: Session, campaign: str, update: str) -> None:
    """Take news of a campaign back."""
    found = await service.find(session, campaign, staff)
    await service.delete_update(session, found, update)
