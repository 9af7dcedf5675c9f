"""Secrets for webhooks that come in, over HTTP: for the partner itself, and for owners."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.kit.clock import now
from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Session
from app.organizations.audit.declaration import audited
from app.organizations.pending_acts.responses import MAY_WAIT, Accepted
from app.organizations.pending_acts.service import Asked, ask
from app.partners.dependencies import Acting, OwnPartner, own_partner
from app.partners.inbound.secrets import service as secrets
from app.partners.inbound.secrets.schemas import NewWebhookSecretView, WebhookSecretBody, WebhookSecretView
from app.partners.models import WebhookSecret
from app.people.dependencies import Ring

router = APIRouter(tags=["partners"])

_ROLES = ("owner", "partner")


@router.post("/v1/partners/{partner}/webhook-secrets", status_code=201)
@audited("webhook_secret.create")
async def create_webhook_secret(
    acting: Acting, session: Session, ring: Ring, response: Response, partner: str, body: WebhookSecretBody
) -> NewWebhookSecretView:
    """Add a secret beside those there are, five of a scheme at the most. This answer alone shows it."""
    found = await own_partner(session, acting, partner)
    added, secret = await secrets.add(
        session, ring, found, body.scheme, secret=body.secret, label=body.label, expires_at=body.expires_at
    )
    response.headers["Cache-Control"] = "no-store"
    return NewWebhookSecretView(**_view(added).model_dump(), secret=secret)


@router.get("/v1/partners/{partner}/webhook-secrets", response_model=Page[WebhookSecretView])
async def list_webhook_secrets(
    partner: OwnPartner, session: Session, paging: Annotated[Paging, Query()]
) -> dict[str, Any]:
    """A partner's secrets, ended ones included, without what would sign anything."""
    return await page_of(session, secrets.secrets_of(partner.id), WebhookSecret.id, paging, _view)


@router.delete("/v1/partners/{partner}/webhook-secrets/{secret}", status_code=204, responses=MAY_WAIT)
@audited("webhook_secret.end", param="secret")
async def revoke_webhook_secret(acting: Acting, partner: OwnPartner, session: Session, secret: str) -> Response:
    """End a secret at once. Ending it again is harmless.

    The last one of its scheme waits a day, or for a second person's word: nothing the partner posts would be taken.
    """
    found = await secrets.find(session, partner, secret)
    if await secrets.is_last(session, found):
        return Accepted(await ask(session, acting, Asked(secrets.END_SECRET, "webhook_secret", _ROLES, found.id)))
    await secrets.revoke(session, found)
    return Response(status_code=204)


def _view(secret: WebhookSecret) -> WebhookSecretView:
    own = {name: getattr(secret, name) for name in WebhookSecretView.model_fields if name != "live"}
    return WebhookSecretView(**own, live=secrets.is_live(secret, now()))
