"""Presenters: a petition as its reader is shown it, in its state by the clock and in the best locale for the reader."""

from typing import Any, Literal

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.paging import Page, Paging, page_of
from app.petitions import queries
from app.petitions.confirmation import takes_unproven, warnings_of
from app.petitions.models import NO_ADDRESS_LIMIT, Petition, PetitionMilestone
from app.petitions.schemas import MilestoneView, PetitionItem, PetitionLinks, PetitionView
from app.petitions.texts import Words, words_for


async def show(session: AsyncSession, petition: Petition, languages: str = "", *, to_staff: bool) -> PetitionView:
    """One petition for a reader of these languages (an `Accept-Language`); in its own locale without any."""
    words, locales = (await words_for(session, [petition], languages))[petition.id]
    state = await queries.state_now(session, petition.id)
    milestones = await queries.milestones_of(session, petition.id)
    return PetitionView(
        **_common(petition, words, state),
        own_locale=petition.locale,
        locales=locales,
        background=words.background,
        next_goal_automatic=petition.next_goal_automatic,
        accept_unproven=takes_unproven(petition),
        allowed_regions=petition.allowed_regions,
        allowed_sources=petition.allowed_sources,
        milestones=[_milestone(milestone) for milestone in milestones],
        personal_data_until=petition.personal_data_until,
        moderation_reason=petition.moderation_reason if to_staff else None,
        address_limit=_address_limit(petition) if to_staff else None,
        personal_data_destroyed_at=petition.personal_data_destroyed_at if to_staff else None,
        warnings=warnings_of(petition) if to_staff else [],
    )


async def show_page(
    session: AsyncSession, query: Select[Petition], paging: Paging, languages: str
) -> Page[PetitionItem]:
    """A page of petitions, newest first, each in the best locale it has for this reader."""
    page = await page_of(session, query, Petition.id, paging, lambda petition: petition)
    petitions: list[Petition] = page["items"]
    words = await words_for(session, petitions, languages)
    states = await queries.states_now(session, list(words))
    items = [PetitionItem(**_common(p, words[p.id][0], states[p.id])) for p in petitions]
    return Page(items=items, next_cursor=page["next_cursor"])


def _address_limit(petition: Petition) -> int | Literal["none"] | None:
    return "none" if petition.address_limit == NO_ADDRESS_LIMIT else petition.address_limit


def _common(petition: Petition, words: Words, state: str) -> dict[str, Any]:
    own = {name: getattr(petition, name) for name in PetitionItem.model_fields if hasattr(petition, name)}
    in_locale = {"locale": words.locale, "title": words.title, "ask": words.ask}
    return {**own, **in_locale, "state": state, "links": links_of(petition)}


def links_of(petition: Petition) -> PetitionLinks:
    """Where to go from a petition."""
    at = f"/v1/petitions/{petition.slug}"
    return PetitionLinks(
        campaign=f"/v1/campaigns/{petition.campaign_id}",
        signatures=f"{at}/signatures",
        count=f"{at}/count",
        tally=f"{at}/tally",
        stream=f"{at}/stream",
    )


def _milestone(milestone: PetitionMilestone) -> MilestoneView:
    return MilestoneView(
        signature_count=milestone.threshold_count,
        label=milestone.label,
        reached_at=milestone.reached_at,
        reached_signature_count=milestone.reached_signature_count,
    )
