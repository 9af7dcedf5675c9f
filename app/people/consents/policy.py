"""Consent policies: which texts each organization asks people to agree to, checked when somebody signs.

Many people sign at once, so policies are read for many of them by one query and cached for a second. Nothing is refused
on a cached policy: it is read again first.
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

ConsentPolicies: TypeAlias = "CoalescingReader[str, ConsentPolicy]"


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


class ConsentPolicy(NamedTuple):
    """One organization's consent policy: its id, and the ids of its texts by purpose and version."""

    id: UUID
    texts: Mapping[str, Mapping[str, UUID]]

    def text_id(self, consent: ConsentBody) -> UUID | None:
        """The id of the text that this consent names; None when it names none, or an unknown one."""
        version = consent.text_version
        return self.texts.get(consent.purpose, {}).get(version) if version is not None else None


def open_consent_policies(database: Database) -> ConsentPolicies:
    """Policies by the organization's slug, at most a second old; one query at a time, however many ask."""

    async def read(slugs: Sequence[str]) -> Mapping[str, ConsentPolicy]:
        async with database.transaction() as session:
            return await read_policies(session, slugs)

    return CoalescingReader(read)


async def read_policies(session: AsyncSession, slugs: Iterable[str] | None = None) -> dict[str, ConsentPolicy]:
    """The policies of those of these organizations that exist, by slug; of all organizations without `slugs`."""
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
    return {slug: ConsentPolicy(id_, found) for (slug, id_), found in texts.items()}


def check(policies: Mapping[str, ConsentPolicy], consents: Sequence[ConsentBody]) -> None:
    """Refuse consents that these policies do not allow: ConsentTwice, UnknownOrganization, ConsentTextNeeded,
    UnknownConsentText."""
    _check_each_once(consents)
    for consent in consents:
        policy = policies.get(consent.organization)
        if policy is None:
            raise UnknownOrganization
        if consent.text_version is not None:
            if policy.text_id(consent) is None:
                raise UnknownConsentText
        elif consent.given and policy.texts.get(consent.purpose):
            raise ConsentTextNeeded


def _check_each_once(consents: Sequence[ConsentBody]) -> None:
    if len({consent.organization for consent in consents}) < len(consents):
        raise ConsentTwice


async def validate(cached: ConsentPolicies, consents: Sequence[Consent]) -> Mapping[str, ConsentPolicy]:
    """The policies that these consents are about, after checking them; raises what `check` raises."""
    _check_each_once(consents)
    slugs = {consent.organization for consent in consents}
    policies = {slug: found for slug in slugs if (found := cached.peek(slug)) is not None}
    try:
        check(policies, consents)
    except Problem:
        # The cache may be a second behind, and a text that has just been added may be in use already.
        fresh = {slug: await cached.refresh(slug) for slug in slugs}
        policies = {slug: found for slug, found in fresh.items() if found is not None}
        check(policies, consents)
    return policies


def entries_of(
    policies: Mapping[str, ConsentPolicy],
    consents: Iterable[Consent],
    signer: bytes,
    decided_at: datetime,
    *,
    proven: bool,
    petition_id: UUID | None = None,
    partner_id: UUID | None = None,
    attempt_id: UUID | None = None,
) -> list[Entry]:
    """The ledger entries of these consents; `proven` if the attempt they came with was confirmed by its own link.

    Consents to an organization that does not exist are left out.
    """
    return [
        Entry(
            signer,
            policy.id,
            consent.purpose,
            consent.given,
            policy.text_id(consent),
            decided_at,
            petition_id,
            partner_id,
            consent.page,
            proven,
            attempt_id,
        )
        for consent in consents
        if (policy := policies.get(consent.organization)) is not None
    ]
