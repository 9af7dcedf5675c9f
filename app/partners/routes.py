"""This room's routes, in the order in which they are described."""

from fastapi import APIRouter

from app.partners.inbound.routes import router as signatures
from app.partners.outbound.endpoint_routes import router as endpoints
from app.partners.outbound.message_routes import router as messages
from app.partners.outbound.signer_routes import router as signers
from app.partners.partnership_routes import router as partnerships
from app.partners.secret_routes import router as secrets
from app.partners.shapes.osdi_routes import router as osdi
from app.partners.shapes.routes import router as shapes

router = APIRouter()
for _each in (partnerships, secrets, signatures, shapes, osdi, signers, endpoints, messages):
    router.include_router(_each)
