"""Petitions over HTTP: everybody reads, in their language; campaigners write."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from app.campaigns import service as campaigns
from app.kit.database.paging import Page
from app.kit.database.session import Session
from app.kit.settings import KIBIBYTE
from app.kit.web.bodies import longest_body
from app.kit.web.caching import cached
from app.organizations.audit.declaration import audited
from app.organizations.auth import KEY_OPTIONAL, Caller, Campaigner
from app.organizations.pending_acts.responses import MAY_WAIT
from app.organizations.principals import Principal
from app.petitions import milestones, queries, service, texts, waiting
from app.petitions.models import Petition
from app.petitions.presenters import show, show_page
from app.petitions.schemas import (
    Milestones,
    ModerationBody,
    PetitionBody,
    PetitionChanges,
    PetitionItem,
    PetitionPaging,
    PetitionView,
    ReopenBody,
    TextLocale,
    WordsBody,
)

router = APIRouter(tags=["petitions"])

# Seconds for which a reader, and a shared cache, may keep a petition: short, so that one that closes is soon seen
# closed.
_MAX_AGE, _SHARED_MAX_AGE = 5, 10
_LANGUAGES: dict[str, Any] = {
    "parameters": [
        {
            "name": "Accept-Language",
            "in": "header",
            "schema": {"type": "string"},
            "description": "chooses among the petition's locales; its own stands in for all others",
        }
    ]
}
_PUBLIC = {**KEY_OPTIONAL, **_LANGUAGES}


def _languages(request: Request) -> str:
    return ",".join(request.headers.getlist("Accept-Language"))


def _answer(request: Request, view: BaseModel, caller: Principal | None, **headers: str) -> Response:
    return cached(
        request,
        view.model_dump_json().encode(),
        max_age=_MAX_AGE,
        shared_max_age=_SHARED_MAX_AGE,
        private=caller is not None,
        headers={"Vary": "Accept-Language", **headers},
    )


async def _changed(session: Session, response: Response, petition: Petition, locale: str = "") -> PetitionView:
    """The answer to a change: the whole petition, in its own words unless the change was about others."""
    view = await show(session, petition, locale, to_staff=True)
    response.headers["Content-Language"] = view.locale
    response.headers["Cache-Control"] = "no-store"
    return view


@router.post("/v1/campaigns/{campaign}/petitions", status_code=201)
@audited("petition.create")
@longest_body(288 * KIBIBYTE)
async def create_petition(
    campaigner: Campaigner, session: Session, response: Response, campaign: str, body: PetitionBody
) -> PetitionView:
    """Draft a petition under a campaign."""
    found = await campaigns.find(session, campaign, campaigner)
    petition = await service.create(session, found.id, body)
    response.headers["Location"] = f"/v1/petitions/{petition.slug}"
    return await _changed(session, response, petition)


@router.get("/v1/campaigns/{campaign}/petitions", response_model=Page[PetitionItem], openapi_extra=_PUBLIC)
async def list_petitions_of_campaign(
    request: Request,
    session: Session,
    caller: Caller,
    campaign: str,
    paging: Annotated[PetitionPaging, Query()],
) -> Response:
    """The petitions of a campaign, newest first."""
    found = await campaigns.find(session, campaign, caller)
    query = queries.listed(caller, paging.state).where(Petition.campaign_id == found.id)
    return _answer(request, await show_page(session, query, paging, _languages(request)), caller)


@router.get("/v1/petitions", response_model=Page[PetitionItem], openapi_extra=_PUBLIC)
async def list_petitions(
    request: Request, session: Session, caller: Caller, paging: Annotated[PetitionPaging, Query()]
) -> Response:
    """The petitions of all campaigns, newest first."""
    query = queries.listed(caller, paging.state)
    return _answer(request, await show_page(session, query, paging, _languages(request)), caller)


@router.get("/v1/petitions/{petition}", response_model=PetitionView, openapi_extra=_PUBLIC)
async def show_petition(request: Request, session: Session, caller: Caller, petition: str) -> Response:
    """One petition, in the words that suit the reader best."""
    found = await service.find(session, petition, caller)
    to_staff = caller is not None and caller.is_staff
    view = await show(session, found, _languages(request), to_staff=to_staff)
    return _answer(request, view, caller, **{"Content-Language": view.locale})


@router.patch("/v1/petitions/{petition}", response_model=PetitionView, responses=MAY_WAIT)
@audited("petition.change")
@longest_body(640 * KIBIBYTE)
async def change_petition(
    campaigner: Campaigner, session: Session, response: Response, petition: str, body: PetitionChanges
) -> PetitionView | Response:
    """Change a petition. What is left out stays. A nearer `personal_data_until` waits, the rest is done at once."""
    found, nearer = await service.change(session, petition, body)
    if nearer is not None:
        return await waiting.ask_to_end_retention(session, campaigner, found, nearer)
    return await _changed(session, response, found)


@router.put("/v1/petitions/{petition}/texts/{locale}")
@audited("petition.put_text")
@longest_body(160 * KIBIBYTE)
async def put_petition_text(
    _campaigner: Campaigner,
    session: Session,
    response: Response,
    petition: str,
    locale: TextLocale,
    body: WordsBody,
) -> PetitionView:
    """Give a petition words in one more locale, or replace them. Answers in that locale."""
    return await _changed(session, response, await texts.put(session, petition, locale, body), locale)


@router.delete("/v1/petitions/{petition}/texts/{locale}")
@audited("petition.delete_text")
async def delete_petition_text(
    _campaigner: Campaigner, session: Session, response: Response, petition: str, locale: TextLocale
) -> PetitionView:
    """Take a petition's words in one locale away."""
    return await _changed(session, response, await texts.remove(session, petition, locale))


@router.put("/v1/petitions/{petition}/milestones")
@audited("petition.replace_milestones")
@longest_body(128 * KIBIBYTE)
async def replace_petition_milestones(
    _campaigner: Campaigner, session: Session, response: Response, petition: str, body: Milestones
) -> PetitionView:
    """Replace the milestones still ahead. Those already reached stay as they are."""
    return await _changed(session, response, await milestones.replace(session, petition, body))


@router.post("/v1/petitions/{petition}/publish")
@audited("petition.publish")
async def publish_petition(
    _campaigner: Campaigner, session: Session, response: Response, petition: str
) -> PetitionView:
    """Open a draft for signatures now."""
    return await _changed(session, response, await service.publish(session, petition))


@router.post("/v1/petitions/{petition}/close")
@audited("petition.close")
async def close_petition(_campaigner: Campaigner, session: Session, response: Response, petition: str) -> PetitionView:
    """Close an open petition now."""
    return await _changed(session, response, await service.close(session, petition))


@router.post("/v1/petitions/{petition}/reopen")
@audited("petition.reopen")
async def reopen_petition(
    _campaigner: Campaigner,
    session: Session,
    response: Response,
    petition: str,
    body: ReopenBody | None = None,
) -> PetitionView:
    """Open a closed petition again, until `closes_at` if one is given."""
    closes_at = body.closes_at if body else None
    return await _changed(session, response, await service.reopen(session, petition, closes_at))


@router.post("/v1/petitions/{petition}/archive", response_model=PetitionView, responses=MAY_WAIT)
@audited("petition.archive")
async def archive_petition(
    campaigner: Campaigner, session: Session, response: Response, petition: str
) -> PetitionView | Response:
    """Put a closed petition away for good, in a day or at a second person's word."""
    found = await service.find_to_archive(session, petition)
    if found.state != "archived":
        return await waiting.ask_to_archive(session, campaigner, found)
    return await _changed(session, response, found)


@router.put("/v1/petitions/{petition}/moderation")
@audited("petition.moderate")
async def moderate_petition(
    _campaigner: Campaigner, session: Session, response: Response, petition: str, body: ModerationBody
) -> PetitionView:
    """Decide whether the public may see and sign a petition: only an approved one."""
    return await _changed(session, response, await service.moderate(session, petition, body))
