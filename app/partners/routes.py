"""This room's routes, in the order in which they are described."""

from fastapi import APIRouter

from app.kit.webhooks.message_types import MessageTypes
from app.partners.adapters.osdi.routes import router as osdi
from app.partners.adapters.routes import router as adapters
from app.partners.inbound.routes import router as signatures
from app.partners.inbound.secrets.routes import router as secrets
from app.partners.outbound.contacts.routes import router as contacts
from app.partners.outbound.endpoints.message_routes import messages_router
from app.partners.outbound.endpoints.routes import endpoints_router
from app.partners.outbound.feed.routes import router as signers
from app.partners.partnerships.routes import router as partnerships

router = APIRouter()
for _each in (partnerships, secrets, signatures, adapters, osdi, contacts, signers):
    router.include_router(_each)


def message_type_routers(types: MessageTypes) -> APIRouter:
    """The routes that depend on which message types there are in this process."""
    made = APIRouter()
    made.include_router(endpoints_router(types))
    made.include_router(messages_router(types))
    return made
