"""Consents in words: what somebody is shown before they prove one, or are told of in a mail."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.organizations.models import Organization
from app.people.models import ConsentText
from app.people.schemas import ConsentBody


class ConsentInWords(BaseModel):
    """A consent as it is shown. `number`: its place, from 0, among those that came with it."""

    number: int
    organization: str
    organization_name: str
    purpose: str
    given: bool
    text_version: str | None
    text: str | None


async def in_words(session: AsyncSession, lists: Sequence[Sequence[ConsentBody]]) -> list[list[ConsentInWords]]:
    """Each list with the names of the organizations and the texts agreed to, in as many statements for many as for one.

    A consent to an organization that is gone, or in a text that it never had, is left out: it could not be shown.
    """
    every = [consent for consents in lists for consent in consents]
    names = await _organizations(session, {consent.organization for consent in every})
    texts = await _texts(session, [id_ for id_, _ in names.values()]) if names else {}
    return [_shown(consents, names, texts) for consents in lists]


def _shown(
    consents: Iterable[ConsentBody], names: dict[str, tuple[UUID, str]], texts: dict[tuple[UUID, str, str], str]
) -> list[ConsentInWords]:
    shown = []
    for number, consent in enumerate(consents):
        id_, name = names.get(consent.organization, (None, ""))
        version = consent.text_version
        text = texts.get((id_, consent.purpose, version)) if id_ and version is not None else None
        if id_ is None or (version is not None and text is None):
            continue
        shown.append(
            ConsentInWords(
                number=number,
                organization=consent.organization,
                organization_name=name,
                purpose=consent.purpose,
                given=consent.given,
                text_version=version,
                text=text,
            )
        )
    return shown


async def _organizations(session: AsyncSession, slugs: Iterable[str]) -> dict[str, tuple[UUID, str]]:
    query = select(Organization.slug, Organization.id, Organization.name).where(Organization.slug.in_(set(slugs)))
    return {slug: (id_, name) for slug, id_, name in await session.execute(query)}


async def _texts(session: AsyncSession, organization_ids: Iterable[UUID]) -> dict[tuple[UUID, str, str], str]:
    query = select(ConsentText.organization_id, ConsentText.purpose, ConsentText.version, ConsentText.body)
    rows = await session.execute(query.where(ConsentText.organization_id.in_(organization_ids)))
    return {(id_, purpose, version): body for id_, purpose, version, body in rows}
