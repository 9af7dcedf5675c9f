"""This room's routes, in the order in which they are described."""

from fastapi import APIRouter

from app.partners.adapters.osdi.routes import router as osdi
from app.partners.adapters.routes import router as shapes
from app.partners.inbound.routes import router as signatures
from app.partners.inbound.secrets.routes import router as secrets
from app.partners.outbound.endpoints.message_routes import router as messages
from app.partners.outbound.endpoints.routes import router as endpoints
from app.partners.outbound.feed.routes import router as signers
from app.partners.partnerships.routes import router as partnerships

router = APIRouter()
for _each in (partnerships, secrets, signatures, shapes, osdi, signers, endpoints, messages):
    router.include_router(_each)
