"""Acts that wait, over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.kit.database.paging import Page, page_of
from app.kit.database.session import Session
from app.kit.room_interface import services
from app.organizations.audit.declaration import audited
from app.organizations.auth import staff
from app.organizations.models import PendingAct
from app.organizations.pending_acts import service
from app.organizations.pending_acts.carrying_out import carry_out
from app.organizations.pending_acts.schemas import PendingActPaging, PendingActView
from app.organizations.principals import STAFF_ROLES, Principal

router = APIRouter(tags=["organizations"])

_Concerned = Annotated[Principal, Depends(staff(*STAFF_ROLES, "partner"))]


@router.get("/v1/pending-acts", response_model=Page[PendingActView])
async def list_pending_acts(
    concerned: _Concerned, session: Session, paging: Annotated[PendingActPaging, Query()]
) -> dict[str, Any]:
    """Acts that wait, and what became of others; owners all, other staff those of their role, a partner its own."""
    query = service.visible_to(concerned)
    if paging.state is not None:
        query = query.where(PendingAct.state == paging.state)
    return await page_of(session, query, PendingAct.id, paging, PendingActView.model_validate)


@router.get("/v1/pending-acts/{pending_act}")
async def show_pending_act(concerned: _Concerned, session: Session, pending_act: str) -> PendingActView:
    """One act that waits, or what became of it."""
    return PendingActView.model_validate(await service.find(session, pending_act, concerned))


@router.post("/v1/pending-acts/{pending_act}/confirm")
@audited("pending_act.confirm")
async def confirm_pending_act(
    request: Request, concerned: _Concerned, session: Session, pending_act: str
) -> PendingActView:
    """Confirm what somebody else asked for: it is done at once. With a key that no holder of theirs could have made."""
    act = await service.find(session, pending_act, concerned, locked=True)
    await service.require_second_person(session, act, concerned)
    service.require_waiting(act)
    await carry_out(session, services(request).pending_acts(), act, concerned.key_id)
    return PendingActView.model_validate(act)


@router.post("/v1/pending-acts/{pending_act}/cancel")
@audited("pending_act.cancel")
async def cancel_pending_act(concerned: _Concerned, session: Session, pending_act: str) -> PendingActView:
    """Cancel an act that waits; owners, and the key that asked for it."""
    return PendingActView.model_validate(await service.cancel(session, pending_act, concerned))
