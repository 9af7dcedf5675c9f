"""What a mailed link would confirm, over HTTP."""

from fastapi import APIRouter, Response

from app.kit.database.session import Session
from app.signatures import service
from app.signatures.confirmation.preview import preview
from app.signatures.routes import Services
from app.signatures.schemas import ConfirmationPreview, LinkBody

router = APIRouter(tags=["signatures"])


@router.post("/v1/confirmations/preview")
async def preview_confirmation(
    services: Services, session: Session, response: Response, body: LinkBody
) -> ConfirmationPreview:
    """What the mailed link would confirm, for its reader to see before; nothing is changed."""
    response.headers["Cache-Control"] = "no-store"
    return await preview(session, services.ring, service.follow(services, body.token))
