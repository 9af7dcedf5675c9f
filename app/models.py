"""Every room's tables, for Alembic."""

from app.campaigns import models as campaigns
from app.kit.abuse import client_addresses
from app.kit.crypto import key_ring_guard
from app.kit.database import outbox as announcing
from app.kit.database.session import Base
from app.organizations import models as organizations
from app.partners import models as partners
from app.people import models as people
from app.petitions import models as petitions
from app.signatures import models as signatures

metadata = Base.metadata
__all__ = [
    "announcing",
    "campaigns",
    "client_addresses",
    "key_ring_guard",
    "metadata",
    "organizations",
    "partners",
    "people",
    "petitions",
    "signatures",
]
