"""Who asks people for consent, and in which words: what must be known of that when somebody signs.

A multitude signs, so this is read for many at once and kept for a second. A refusal is made on a read of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.coalescing import CoalescingReader
from app.kit.database.session import Database
from app.kit.problems import Invalid, Problem
from app.organizations.models import Organization
from app.people.consents.service import Entry
from app.people.models import ConsentText
from app.people.schemas import Consent, ConsentBody

Asking: TypeAlias = "CoalescingReader[str, AskedOrganization]"


class UnknownOrganization(Invalid):
    """A consent names an organization that does not exist."""

    slug = "unknown-organization"


class ConsentTextNeeded(Invalid):
    """A consent must name the version of the text that was agreed to."""

    slug = "consent-text-needed"


class UnknownConsentText(Invalid):
    """A consent names a text that the organization has never had for this purpose."""

    slug = "unknown-consent-text"


class ConsentTwice(Invalid):
    """Two consents name the same organization: say what holds."""

    slug = "consent-twice"


class AskedOrganization(NamedTuple):
    """An organization, and the ids of its texts by purpose and version."""

    id: UUID
    texts: Mapping[str, Mapping[str, UUID]]

    def text_id(self, consent: ConsentBody) -> UUID | None:
        """The text this consent is about, if it names one there is."""
        version = consent.text_version
        return self.texts.get(consent.purpose, {}).get(version) if version is not None else None


def open_asking(database: Database) -> Asking:
    """Organizations by slug, at most a second old; one query at a time, however many ask."""

    async def read(slugs: Sequence[str]) -> Mapping[str, AskedOrganization]:
        async with database.transaction() as session:
            return await read_asked(session, slugs)

    return CoalescingReader(read)


async def read_asked(session: AsyncSession, slugs: Iterable[str] | None = None) -> dict[str, AskedOrganization]:
    """These organizations by slug, those there are; all without `slugs`."""
    query = (
        select(Organization.slug, Organization.id, ConsentText.purpose, ConsentText.version, ConsentText.id)
        .outerjoin(ConsentText, ConsentText.organization_id == Organization.id)
        .where(true() if slugs is None else Organization.slug.in_(set(slugs)))
    )
    texts: dict[tuple[str, UUID], dict[str, dict[str, UUID]]] = {}
    for slug, id_, purpose, version, text_id in await session.execute(query):
        of_organization = texts.setdefault((slug, id_), {})
        if text_id is not None:
            of_organization.setdefault(purpose, {})[version] = text_id
    return {slug: AskedOrganization(id_, found) for (slug, id_), found in texts.items()}


def check(asked: Mapping[str, AskedOrganization], consents: Sequence[ConsentBody]) -> None:
    """What stands against entering these consents: ConsentTwice, UnknownOrganization, ConsentTextNeeded,
    UnknownConsentText."""
    _check_each_once(consents)
    for consent in consents:
        organization = asked.get(consent.organization)
        if organization is None:
            raise UnknownOrganization
        if consent.text_version is not None:
            if organization.text_id(consent) is None:
                raise UnknownConsentText
        elif consent.given and organization.texts.get(consent.purpose):
            raise ConsentTextNeeded


def _check_each_once(consents: Sequence[ConsentBody]) -> None:
    if len({consent.organization for consent in consents}) < len(consents):
        raise ConsentTwice


async def admit(asking: Asking, consents: Sequence[Consent]) -> Mapping[str, AskedOrganization]:
    """What is known of the organizations these consents name, once it is shown that they can be entered; as `check`."""
    _check_each_once(consents)
    slugs = {consent.organization for consent in consents}
    asked = {slug: found for slug in slugs if (found := asking.kept(slug)) is not None}
    try:
        check(asked, consents)
    except Problem:
        # A snapshot may be a second behind: a text that has just been added is asked for already.
        fresh = {slug: await asking.fresh(slug) for slug in slugs}
        asked = {slug: found for slug, found in fresh.items() if found is not None}
        check(asked, consents)
    return asked


def entries_of(
    asked: Mapping[str, AskedOrganization],
    consents: Iterable[Consent],
    signer: bytes,
    decided_at: datetime,
    *,
    proven: bool,
    petition_id: UUID | None = None,
    partner_id: UUID | None = None,
) -> list[Entry]:
    """What is entered of these consents, `proven` if the signature they came with was confirmed by mail.

    Those to an organization there is not are passed over.
    """
    return [
        Entry(
            signer,
            organization.id,
            consent.purpose,
            consent.given,
            organization.text_id(consent),
            decided_at,
            petition_id,
            partner_id,
            consent.page,
            proven,
        )
        for consent in consents
        if (organization := asked.get(consent.organization)) is not None
    ]
