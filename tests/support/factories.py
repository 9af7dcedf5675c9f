"""People who sign, and petitions to sign."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from app.campaigns.models import Campaign
from app.kit.clock import now
from app.kit.database.session import Database
from app.petitions.models import NO_ADDRESS_LIMIT, Petition
from tests.support.types import Json


def person(number: int, country: str = "UG", **more: object) -> Json:
    """One of many people, as a body to sign with."""
    return {
        "given_name": f"Given{number}",
        "family_name": f"Family{number}",
        "email": f"person.{number}@example.org",
        "country": country,
        **more,
    }


def people_like(count: int, make: Callable[..., Json] = person, **more: object) -> list[Json]:
    """So many people who have this in common."""
    return [make(number, **more) for number in range(count)]


# Staff's words for a petition that counts at once.
UNPROVEN: Json = {"confirmation": "none", "accept_unproven": True}


async def insert_petition(database: Database, slug: str = "end-the-ban", **more: Any) -> UUID:
    """A petition, open and counting at once unless said otherwise, put straight into the database; its id.

    Without a limit per client address unless said otherwise, for a test's people all sign from one.
    """
    async with database.transaction() as session:
        campaign = Campaign(slug=f"campaign-of-{slug}", title="Title", goal_statement="Goal")
        session.add(campaign)
        await session.flush()
        given = {
            "state": "open",
            "signature_goal": 100,
            "confirmation": "none",
            "opens_at": now(),
            "address_limit": NO_ADDRESS_LIMIT,
            **more,
        }
        petition = Petition(campaign_id=campaign.id, slug=slug, title="End the ban", ask="End it.", **given)
        session.add(petition)
        await session.flush()
        return petition.id
