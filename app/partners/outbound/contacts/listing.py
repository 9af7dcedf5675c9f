"""The list of an organization's contacts: those whose consent to it stands, with what came with that consent.

A consent stands here if it is proven, or if the organization brought it about itself. A partner is shown those of
petitions that its terms cover, as in its feed.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.paging import Page, Paging, UnknownCursor
from app.kit.logs import failure_of, log
from app.kit.problems import Unavailable
from app.organizations.models import Organization
from app.partners.partnerships.terms import NoPartnership, receives, receiving_campaigns
from app.people.presenters import show_person
from app.people.queries import PRECEDENCE
from app.people.schemas import ConsentingPersonView
from app.people.sealing import Details, open_contact, open_details, read_cursor, write_cursor

# Seconds: until then an operator may have brought the missing key back. Who is left out of a page would be taken for
# somebody who has changed their mind.
_LATER = 60
# Who agreed on their own page brought nothing with it: what they have said there about themselves is shown. The second
# condition on the signer is implied, but without it the planner reads from the beginning.
_LIST = text(f"""
    SELECT latest.signer, latest.decided_at, latest.proven, t.version, k.sealed AS contact, m.sealed AS person
    FROM (
        SELECT DISTINCT ON (c.signer) c.* FROM consents c
        WHERE c.organization_id = :organization_id AND c.purpose = 'news' AND c.signer > :after
        ORDER BY c.signer, {", ".join(f"c.{name} DESC" for name in PRECEDENCE)}
    ) AS latest
    LEFT JOIN contacts k ON k.organization_id = :organization_id AND k.signer = latest.signer
    LEFT JOIN people m ON m.signer = latest.signer AND latest.attempt_id IS NULL AND latest.proven
    LEFT JOIN petitions p ON p.id = latest.petition_id
    LEFT JOIN consent_texts t ON t.id = latest.text_id
    WHERE latest.given AND (latest.proven OR latest.attempt_id IS NOT NULL)
    AND (k.signer IS NOT NULL OR m.signer IS NOT NULL)
    AND (latest.petition_id IS NULL OR {receives("latest.organization_id", "p")})
    ORDER BY latest.signer LIMIT :limit
""")


async def page_of_contacts(
    session: AsyncSession, ring: KeyRing, organization: Organization, paging: Paging
) -> Page[ConsentingPersonView]:
    """A page, in an order that does not change between pages; NoPartnership, UnknownCursor, Unavailable."""
    if organization.kind != "movement" and not await receiving_campaigns(session, organization.id):
        raise NoPartnership("No active partnership lets you receive signers.")
    try:
        after = read_cursor(ring, organization.id, paging.cursor) if paging.cursor else b""
    except SealBrokenError:
        raise UnknownCursor from None
    values = {"organization_id": organization.id, "after": after, "limit": paging.limit + 1}
    rows = (await session.execute(_LIST, values)).all()
    shown = rows[: paging.limit]
    items = [view for row in shown if (view := _view(ring, organization.id, row)) is not None]
    more = len(rows) > paging.limit
    return Page(items=items, next_cursor=write_cursor(ring, organization.id, shown[-1].signer) if more else None)


def _view(ring: KeyRing, organization_id: UUID, row: Any) -> ConsentingPersonView | None:
    try:
        details = _details(ring, organization_id, row)
    except SealBrokenError as error:
        log.error("a person cannot be read", **failure_of(error))
        if ring.lacks_key_of(row.person if row.contact is None else row.contact):
            raise Unavailable("Some people cannot be read right now.", retry_after=_LATER) from None
        return None
    person = show_person(details).model_dump(include={"given_name", "family_name", "email", "locale"})
    if not details.proven and row.proven:
        # The consent is theirs; the names beside it may be anybody's.
        person |= {"given_name": None, "family_name": None}
    return ConsentingPersonView(**person, decided_at=row.decided_at, proven=row.proven, text_version=row.version)


def _details(ring: KeyRing, organization_id: UUID, row: Any) -> Details:
    if row.contact is not None:
        return open_contact(ring, organization_id, row.signer, row.contact)
    details = open_details(ring, row.signer, row.person)
    # What else is kept of them came with consents to others.
    return details if details.on_own_page else Details(details.email)
