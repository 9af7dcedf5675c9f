"""A person's own signatures over HTTP."""

from fastapi import APIRouter, Request, Response

from app.kit import room_interface
from app.kit.database.session import Session
from app.people.dependencies import CurrentPerson
from app.signatures.me import service as own
from app.signatures.routes import Services
from app.signatures.schemas import OwnSignatures, WithdrawalView

router = APIRouter(tags=["me"])


@router.get("/v1/me/signatures")
async def list_own_signatures(
    request: Request, myself: CurrentPerson, session: Session, response: Response
) -> OwnSignatures:
    """Your signatures, newest first."""
    response.headers["Cache-Control"] = "no-store"
    return OwnSignatures(
        items=await own.signatures_of(session, room_interface.services(request).key_ring, myself.signer)
    )


@router.post("/v1/me/signatures/{petition}/withdraw")
async def withdraw_own_signature(
    request: Request, myself: CurrentPerson, services: Services, petition: str
) -> WithdrawalView:
    """Withdraw your signature; its personal data is destroyed."""
    await own.withdraw(services, room_interface.services(request).database, myself.signer, petition)
    return WithdrawalView()
