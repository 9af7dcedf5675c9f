"""Texts in further locales, and which of them a reader is shown (content negotiation)."""

from collections.abc import Sequence
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.problems import NotFound
from app.kit.text.locales import negotiate
from app.petitions import queries
from app.petitions.models import Petition, PetitionText
from app.petitions.schemas import WordsBody
from app.petitions.service import OwnLocale, lock

Words: TypeAlias = Petition | PetitionText


class TextNotFound(NotFound):
    """The petition has no words in this locale."""

    slug = "text-not-found"


async def put(session: AsyncSession, ref: str, locale: str, body: WordsBody) -> Petition:
    """Add or replace the words of one locale; PetitionNotFound, OwnLocale."""
    petition = await _lock_for(session, ref, locale)
    words = body.model_dump()
    statement = insert(PetitionText).values(petition_id=petition.id, locale=locale, **words)
    await session.execute(statement.on_conflict_do_update(index_elements=["petition_id", "locale"], set_=words))
    return petition


async def remove(session: AsyncSession, ref: str, locale: str) -> Petition:
    """Take the words of one locale away; PetitionNotFound, OwnLocale, TextNotFound."""
    petition = await _lock_for(session, ref, locale)
    one = (PetitionText.petition_id == petition.id, PetitionText.locale == locale)
    removed = delete(PetitionText).where(*one).returning(PetitionText.locale)
    if await session.scalar(removed, execution_options={"synchronize_session": False}) is None:
        raise TextNotFound
    return petition


async def _lock_for(session: AsyncSession, ref: str, locale: str) -> Petition:
    petition = await lock(session, ref)
    petition.updated_at = now()
    if locale == petition.locale:
        raise OwnLocale("Change them with PATCH on the petition.")
    return petition


async def words_for(
    session: AsyncSession, petitions: Sequence[Petition], languages: str
) -> dict[UUID, tuple[Words, list[str]]]:
    """For each petition the text that a reader of these languages is shown, and its locales, its own first."""
    further = await queries.further_locales(session, [petition.id for petition in petitions])
    locales = {petition.id: [petition.locale, *further[petition.id]] for petition in petitions}
    chosen = {p.id: negotiate(languages, locales[p.id], p.locale) for p in petitions}
    foreign = [(p.id, chosen[p.id]) for p in petitions if chosen[p.id] != p.locale]
    texts = await queries.texts(session, foreign)
    return {p.id: (texts.get(p.id, p), locales[p.id]) for p in petitions}
