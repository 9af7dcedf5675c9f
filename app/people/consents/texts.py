"""Consent texts: what an organization asks people to agree to. It adds versions, and never changes or deletes one."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.problems import NotFound
from app.kit.text.locales import canonical
from app.organizations.models import Organization
from app.organizations.principals import Principal
from app.organizations.service import OrganizationNotFound, find
from app.people import queries
from app.people.models import ConsentText


class ConsentTextNotFound(NotFound):
    """There is no such text of this organization."""

    slug = "consent-text-not-found"


async def find_own(session: AsyncSession, ref: str, principal: Principal) -> Organization:
    """The organization, if this principal may write its texts: staff any, a partner its own; OrganizationNotFound."""
    found = await find(session, ref)
    if principal.role == "partner" and principal.organization_id != found.id:
        raise OrganizationNotFound
    return found


async def add(session: AsyncSession, organization: Organization, purpose: str, locale: str, body: str) -> ConsentText:
    """The next version for this purpose in this locale: the first is `en-1`."""
    # The lock makes additions wait for each other: each takes the next number.
    locked = select(Organization.id).where(Organization.id == organization.id).with_for_update(key_share=True)
    await session.execute(locked)
    locale = canonical(locale)
    number = await queries.text_count(session, organization.id, purpose, locale) + 1
    text = ConsentText(
        organization_id=organization.id, purpose=purpose, locale=locale, version=f"{locale}-{number}", body=body
    )
    session.add(text)
    await session.flush()
    return text


async def find_version(session: AsyncSession, organization: Organization, purpose: str, version: str) -> ConsentText:
    """One version; ConsentTextNotFound."""
    query = queries.texts_of(organization.id).where(ConsentText.purpose == purpose, ConsentText.version == version)
    text = await session.scalar(query)
    if text is None:
        raise ConsentTextNotFound
    return text
