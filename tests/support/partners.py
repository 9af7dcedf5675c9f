"""What the stories about partners share: an organization that is one, under terms, with a key and a secret."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from app.kit.database.session import Database
from app.organizations.models import Organization
from app.organizations.queries import find
from app.organizations.service import create_key
from app.partners.models import Partnership
from app.petitions.models import Petition
from tests.support.databases import locked_by
from tests.support.types import Headers, Json

SLUG, PETITION = "sisters-of-kampala", "repeal-the-act"
NOBODY = UUID(int=0)


@dataclass(frozen=True)
class Partner:
    """A partner in an active partnership. `secret`: of the scheme `standard`, as it is shown when it is made."""

    organization_id: UUID
    slug: str
    key: Headers
    secret: str
    secret_id: UUID
    campaign: str
    campaign_id: UUID
    petition: str
    petition_id: UUID
    partnership_id: UUID


async def insert_partner(database: Database, slug: str, name: str = "A partner") -> tuple[UUID, Headers]:
    """A partner organization, and headers with a key of its own."""
    async with database.transaction() as session:
        organization = Organization(slug=slug, name=name, kind="partner")
        session.add(organization)
        await session.flush()
        _, key = await create_key(session, organization, "partner")
        return organization.id, {"Authorization": f"Bearer {key}"}


async def insert_further_key(database: Database, slug: str) -> Headers:
    """Headers with one more key of a partner."""
    async with database.transaction() as session:
        organization = await find(session, slug)
        assert organization is not None
        _, key = await create_key(session, organization, "partner")
    return {"Authorization": f"Bearer {key}"}


async def insert_partnership(database: Database, organization_id: UUID, campaign_id: UUID, **terms: Any) -> UUID:
    """An active partnership under these terms, put straight into the database; its id."""
    columns: Json = {
        "terms": "Tell people what they sign.",
        "petition_ids": None,
        "consents": [],
        "receives_signers": True,
        "default_country": None,
        "state": "active",
        "invited_by": NOBODY,
        **terms,
    }
    async with database.transaction() as session:
        partnership = Partnership(organization_id=organization_id, campaign_id=campaign_id, **columns)
        session.add(partnership)
        await session.flush()
        return partnership.id


async def campaign_of(database: Database, petition_id: UUID) -> UUID:
    """The campaign a petition belongs to."""
    async with database.transaction() as session:
        petition = await session.get(Petition, petition_id)
        assert petition is not None
        return petition.campaign_id


async def insert_further_petition(database: Database, campaign_id: UUID, slug: str, **more: Any) -> UUID:
    """One more petition of a campaign, open and counting at once unless said otherwise."""
    async with database.transaction() as session:
        given = {"state": "open", "signature_goal": 100, "confirmation": "none", **more}
        petition = Petition(campaign_id=campaign_id, slug=slug, title="One more", ask="Do it.", **given)
        session.add(petition)
        await session.flush()
        return petition.id


async def one_after_the_other(
    database: Database, statement: str, *calls: Callable[[], Awaitable[httpx.Response]]
) -> list[httpx.Response]:
    """These calls, begun in this order, all waiting at once for what the statement locks, then let go."""
    async with locked_by(database, statement) as wait_for:
        tasks = []
        for number, call in enumerate(calls, 1):
            tasks.append(asyncio.ensure_future(call()))
            await wait_for(number)
    return list(await asyncio.gather(*tasks))
