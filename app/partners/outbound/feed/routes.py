"""Those who consented to a partner, for it to pull."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.kit.database.paging import Paging
from app.kit.database.session import Session
from app.organizations.audit.declaration import audited
from app.partners.dependencies import OwnPartner
from app.partners.outbound.feed.schemas import SignersPage
from app.partners.outbound.feed.service import pull
from app.people.dependencies import Ring

router = APIRouter(tags=["partners"])


@router.get("/v1/partners/{partner}/signers")
@audited("signers.look", "organization", param="partner", category="look")
async def list_signers(
    partner: OwnPartner, session: Session, ring: Ring, response: Response, paging: Annotated[Paging, Query()]
) -> SignersPage:
    """Those who consented to the partner with a signature that counts, oldest first; while its terms allow it.

    Ask again with `cursor`, whenever you like, for those who have come since.
    """
    response.headers["Cache-Control"] = "no-store"
    return await pull(session, ring, partner.id, paging)
