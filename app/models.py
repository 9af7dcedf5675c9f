"""Every room's tables, for Alembic."""

from app.campaigns import models as campaigns
from app.kit import addresses, announcing, keyguard
from app.kit.db import Base
from app.organizations import models as organizations
from app.partners import models as partners
from app.people import models as people
from app.petitions import models as petitions
from app.signatures import models as signatures

metadata = Base.metadata
__all__ = [
    "addresses",
    "announcing",
    "campaigns",
    "keyguard",
    "metadata",
    "organizations",
    "partners",
    "people",
    "petitions",
    "signatures",
]
