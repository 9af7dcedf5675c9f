"""This room's routes, in the order in which they are described."""

from fastapi import APIRouter

from app.partners.endpoint_routes import router as endpoints
from app.partners.message_routes import router as messages
from app.partners.osdi_routes import router as osdi
from app.partners.partnership_routes import router as partnerships
from app.partners.secret_routes import router as secrets
from app.partners.shape_routes import router as shapes
from app.partners.signature_routes import router as signatures
from app.partners.signer_routes import router as signers

router = APIRouter()
for _each in (partnerships, secrets, signatures, shapes, osdi, signers, endpoints, messages):
    router.include_router(_each)
