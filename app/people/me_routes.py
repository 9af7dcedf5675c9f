"""Routes of a person's own page: their details, consents and sessions, the export of their data, and the erasure."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.encoders import jsonable_encoder

from app.kit.crypto.sealing import KeyRing
from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Session
from app.kit.problems import Unauthorized
from app.kit.room_interface import services
from app.kit.text.fields import as_id
from app.people import presenters, queries
from app.people.account import service, sessions
from app.people.account.sessions import SessionNotFound
from app.people.consents import policy
from app.people.consents import service as consents
from app.people.dependencies import DEVICE_COOKIE, CurrentPerson, Ring
from app.people.models import Consent, PersonSession
from app.people.personal_data import data_rights
from app.people.schemas import (
    ConsentBody,
    ConsentView,
    ErasureBody,
    ErasureView,
    PersonChanges,
    PersonView,
    SessionView,
)
from app.people.sealing import Details


def _no_store(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


router = APIRouter(tags=["me"], dependencies=[Depends(_no_store)])


@router.get("/v1/me")
async def show_me(myself: CurrentPerson, session: Session, ring: Ring) -> PersonView:
    """What is kept of you beside what you have signed."""
    details = await service.details_of(session, ring, myself.signer) or await _asked_with(myself, session, ring)
    return presenters.show_person(details)


async def _asked_with(myself: CurrentPerson, session: Session, ring: KeyRing) -> Details:
    """The address and locale of this session: all there is of somebody of whom nothing else is kept."""
    details = await sessions.details_asked_with(session, ring, myself.session_id)
    if details is None:
        raise Unauthorized
    return details


async def _keep(myself: CurrentPerson, session: Session, ring: KeyRing) -> None:
    """Make a row for whoever is signed in, unless there is one: now there is something to keep."""
    details = await sessions.details_asked_with(session, ring, myself.session_id)
    if details is not None:
        await service.remember(session, ring, myself.signer, email=details.email, locale=details.locale or "")


@router.patch("/v1/me")
async def change_me(myself: CurrentPerson, session: Session, ring: Ring, body: PersonChanges) -> PersonView:
    """Change what is kept of you. What is left out stays, null takes it away."""
    await sessions.lock(session, myself.session_id)
    await _keep(myself, session, ring)
    details = await service.change(session, ring, myself.signer, body.named())
    if details is None:
        raise Unauthorized
    return presenters.show_person(details)


@router.get("/v1/me/consents", response_model=Page[ConsentView])
async def list_my_consents(
    myself: CurrentPerson, session: Session, paging: Annotated[Paging, Query()]
) -> dict[str, Any]:
    """All you have agreed to and taken back, newest first, in the words you were asked in."""
    query = queries.entries_of(myself.signer)
    page = await page_of(session, query, Consent.id, paging, lambda entry: entry)
    return page | {"items": await presenters.show_consents(session, myself.signer, page["items"])}


@router.post("/v1/me/consents", status_code=201)
async def decide_consent(myself: CurrentPerson, session: Session, ring: Ring, body: ConsentBody) -> ConsentView:
    """Agree to what an organization asks, or take it back. What was kept for it alone is destroyed then."""
    await sessions.lock(session, myself.session_id)
    policies = await policy.read_policies(session, [body.organization])
    policy.check(policies, [body])
    organization = policies[body.organization]
    if body.given:
        await _keep(myself, session, ring)
    entry = await consents.decide(
        session,
        ring,
        myself.signer,
        organization.id,
        body.purpose,
        given=body.given,
        text_id=organization.text_id(body),
        page=consents.OWN_PAGE,
    )
    return (await presenters.show_consents(session, myself.signer, [entry]))[0]


@router.get("/v1/me/sessions", response_model=Page[SessionView])
async def list_my_sessions(
    myself: CurrentPerson, session: Session, paging: Annotated[Paging, Query()]
) -> dict[str, Any]:
    """Where you are signed in."""

    def view(row: PersonSession) -> SessionView:
        return SessionView.model_validate(row).model_copy(update={"current": row.id == myself.session_id})

    return await page_of(session, sessions.sessions_of(myself.signer), PersonSession.id, paging, view)


@router.delete("/v1/me/sessions/{session}", status_code=204)
async def end_my_session(myself: CurrentPerson, session: Session, ended: Annotated[str, Path(alias="session")]) -> None:
    """Sign out on one device, this one or another."""
    id_ = as_id(ended)
    if id_ is None:
        raise SessionNotFound
    await sessions.end(session, myself.signer, id_)


@router.get(
    "/v1/me/export",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def export_me(request: Request, myself: CurrentPerson, session: Session, ring: Ring) -> Response:
    """Everything that is kept of you, as a file."""
    everything = await data_rights.export(session, ring, myself.signer, services(request).personal_data())
    headers = {"Content-Disposition": 'attachment; filename="my-data.json"', "Cache-Control": "no-store"}
    body = json.dumps(jsonable_encoder(everything), ensure_ascii=False, indent=2)
    return Response(body.encode(), headers=headers, media_type="application/json")


@router.post("/v1/me/erasure")
async def erase_me(
    request: Request, response: Response, myself: CurrentPerson, ring: Ring, body: ErasureBody
) -> ErasureView:
    """Destroy all that is kept of you, here and everywhere. Your signatures stay counted as nobody's, or go as well."""
    database = services(request).database
    await data_rights.erase(database, ring, services(request).personal_data(), myself.signer, body.signatures)
    response.delete_cookie(DEVICE_COOKIE)
    return ErasureView()
