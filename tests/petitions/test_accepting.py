"""Whether a petition accepts signatures is one condition, for SQLAlchemy and compiled to text: both say the same."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.campaigns.models import Campaign
from app.kit.database.session import Database
from app.petitions.directory import open_directory
from app.petitions.models import MODERATIONS, STATES, Petition
from app.petitions.queries import ACCEPTING, ACCEPTING_SQL, STATE_NOW, moment

HOUR = timedelta(hours=1)


def _combinations(now: datetime) -> Iterator[Petition]:
    """Every state and moderation with every order of opening, closing and now, `now` itself included."""
    times = [None, now - 2 * HOUR, now - HOUR, now, now + HOUR, now + 2 * HOUR]
    for number, combination in enumerate(product(STATES, MODERATIONS, times, times)):
        state, moderation, opens_at, closes_at = combination
        if opens_at is None or closes_at is None or closes_at > opens_at:
            yield Petition(
                slug=f"petition-{number}",
                state=state,
                moderation=moderation,
                opens_at=opens_at,
                closes_at=closes_at,
                title="Title",
                ask="Ask",
                signature_goal=100,
            )


async def _plant(session: AsyncSession, now: datetime) -> list[Petition]:
    campaign = Campaign(slug="campaign", title="Title", goal_statement="Goal")
    session.add(campaign)
    await session.flush()
    petitions = list(_combinations(now))
    for petition in petitions:
        petition.campaign_id = campaign.id
    session.add_all(petitions)
    await session.flush()
    return petitions


def _accepts(petition: Petition, now: datetime) -> bool:
    opened = petition.state == "open" or (
        petition.state == "draft" and petition.opens_at is not None and petition.opens_at <= now
    )
    ended = petition.closes_at is not None and petition.closes_at <= now
    return opened and not ended and petition.moderation == "approved"


async def test_both_say_the_same_of_every_petition(database: Database) -> None:
    async with database.transaction() as session:
        now = (await session.scalars(select(func.now()))).one()
        petitions = await _plant(session, now)
        ours_query = select(Petition.slug, ACCEPTING.label("accepting"))
        ours = {row.slug: row.accepting for row in await session.execute(ours_query)}
        hot = text(f"SELECT p.slug, ({ACCEPTING_SQL}) IS TRUE AS accepting FROM petitions p")
        theirs = {row.slug: row.accepting for row in await session.execute(hot)}
    assert ours == theirs == {petition.slug: _accepts(petition, now) for petition in petitions}
    assert set(ours.values()) == {True, False}


async def test_a_petition_accepts_exactly_while_it_is_open_and_approved(database: Database) -> None:
    async with database.transaction() as session:
        await _plant(session, (await session.scalars(select(func.now()))).one())
        rows = await session.execute(select(STATE_NOW, Petition.moderation, ACCEPTING))
    for state, moderation, accepting in rows:
        assert accepting == ((state, moderation) == ("open", "approved"))


async def test_the_directory_tells_of_public_petitions_what_the_database_says(database: Database) -> None:
    async with database.transaction() as session:
        now = await moment(session)
        petitions = await _plant(session, now)
    directory = open_directory(database)
    for petition in petitions[::7]:
        entry = await directory.get(petition.slug)
        accepting = entry is not None and entry.accepting
        assert accepting == _accepts(petition, now), petition.slug
