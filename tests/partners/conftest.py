"""A partner under terms, and one whom nothing binds to it."""

import pytest

from app.kit.database.session import Database
from app.organizations.models import Organization
from app.partners.inbound.secrets.service import add
from app.settings import Settings
from tests.support.factories import insert_petition
from tests.support.partners import PETITION, SLUG, Partner, campaign_of, insert_partner, insert_partnership
from tests.support.types import Headers


@pytest.fixture
async def partnership(database: Database, settings: Settings) -> Partner:
    """`sisters-of-kampala`, who may feed all of the campaign of the open petition `repeal-the-act` and receive those
    who consented to it."""
    petition_id = await insert_petition(database, PETITION)
    campaign_id = await campaign_of(database, petition_id)
    organization_id, key = await insert_partner(database, SLUG, "Sisters of Kampala")
    partnership_id = await insert_partnership(database, organization_id, campaign_id)
    async with database.transaction() as session:
        organization = await session.get_one(Organization, organization_id)
        added, secret = await add(session, settings.key_ring, organization, "standard")
    return Partner(
        organization_id=organization_id,
        slug=SLUG,
        key=key,
        secret=secret,
        secret_id=added.id,
        campaign=f"campaign-of-{PETITION}",
        campaign_id=campaign_id,
        petition=PETITION,
        petition_id=petition_id,
        partnership_id=partnership_id,
    )


@pytest.fixture
def partner(partnership: Partner) -> Headers:
    """The partner's key."""
    return partnership.key


@pytest.fixture
async def stranger(database: Database) -> Headers:
    """The key of another partner, `strangers`, which has no partnership."""
    _, key = await insert_partner(database, "strangers", "Strangers")
    return key
