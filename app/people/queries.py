"""Queries about people, their consents, and the texts they consented to."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from app.organizations.models import Organization
from app.organizations.principals import Principal
from app.people.models import Consent, ConsentText, Person, SignIn

# Of several entries with one key, the highest by these columns counts: a proven entry outranks all unproven ones, and a
# later decision outranks an earlier one. Of two decisions made in one moment the one entered later counts.
PRECEDENCE = ("proven", "decided_at", "id")
_HIGHEST_FIRST = [getattr(Consent, name).desc() for name in PRECEDENCE]
# Whether a person has a consent that stands, to whichever organization; `{signer}` is the place of their key.
HAS_CONSENT_SQL = f"""
    EXISTS (
        SELECT 1 FROM (
            SELECT DISTINCT ON (c.organization_id, c.purpose) c.given FROM consents AS c WHERE c.signer = {{signer}}
            ORDER BY c.organization_id, c.purpose, {", ".join(f"c.{name} DESC" for name in PRECEDENCE)}
        ) AS latest WHERE latest.given
    )
"""


def visible_to(principal: Principal | None, organization: Organization) -> bool:
    """Whether this principal may see who consents to this organization: a partner its own people, data officers all."""
    if principal is None:
        return False
    own = principal.role == "partner" and principal.organization_id == organization.id
    return own or principal.role in {"owner", "data_officer"}


async def sealed_of(session: AsyncSession, signers: Collection[bytes]) -> dict[bytes, bytes]:
    """The sealed details of those of these people who have a row."""
    rows = await session.execute(select(Person.signer, Person.sealed).where(Person.signer.in_(signers)))
    return dict(rows.all()) if signers else {}


async def locked(session: AsyncSession, signers: Collection[bytes]) -> Sequence[tuple[bytes, bytes]]:
    """The same, locked in the order of their keys, so that changes of one person wait for each other."""
    if not signers:
        return []
    query = select(Person.signer, Person.sealed).where(Person.signer.in_(signers)).order_by(Person.signer)
    return (await session.execute(query.with_for_update(key_share=True))).all()


async def movement_id(session: AsyncSession) -> UUID:
    """The movement's own id."""
    return (await session.scalars(select(Organization.id).where(Organization.kind == "movement"))).one()


async def latest_of(session: AsyncSession, signer: bytes) -> dict[tuple[UUID, str], Consent]:
    """A person's entries that count, by organization and purpose."""
    return {key[1:]: entry for key, entry in (await latest_of_all(session, [signer])).items()}


async def latest_of_all(session: AsyncSession, signers: Collection[bytes]) -> dict[tuple[bytes, UUID, str], Consent]:
    """The entries of these people that count, by person, organization and purpose."""
    key = (Consent.signer, Consent.organization_id, Consent.purpose)
    query = select(Consent).where(Consent.signer.in_(signers)).ext(distinct_on(*key)).order_by(*key, *_HIGHEST_FIRST)
    found = await session.scalars(query.execution_options(populate_existing=True)) if signers else ()
    return {(entry.signer, entry.organization_id, entry.purpose): entry for entry in found}


async def ever_given(session: AsyncSession, signers: Collection[bytes], purpose: str) -> set[tuple[bytes, UUID]]:
    """The (person, organization) pairs with any entry that gives this consent, whether or not it counts or stands."""
    query = select(Consent.signer, Consent.organization_id).distinct()
    query = query.where(Consent.signer.in_(signers), Consent.purpose == purpose, Consent.given)
    return {(signer, organization_id) for signer, organization_id in await session.execute(query)} if signers else set()


def entries_of(signer: bytes) -> Select[Consent]:
    """All entries of a person."""
    return select(Consent).where(Consent.signer == signer)


async def purposes_given_to_the_movement(session: AsyncSession, signer: bytes) -> set[str]:
    """The purposes for which the movement has this person's consent now, and a proven one."""
    movement = await movement_id(session)
    latest = await latest_of(session, signer)
    return {
        purpose
        for (organization_id, purpose), entry in latest.items()
        if organization_id == movement and entry.given and entry.proven
    }


def consenting(organization_id: UUID, purpose: str) -> Select[bytes]:
    """The keys of the people whose consent to this organization and purpose stands."""
    latest = _latest(organization_id, purpose).subquery()
    return select(latest.c.signer).where(latest.c.given)


def _latest(organization_id: UUID, purpose: str) -> Select[bytes, bool, bool, UUID | None, datetime]:
    return (
        select(Consent.signer, Consent.given, Consent.proven, Consent.text_id, Consent.decided_at)
        .where(Consent.organization_id == organization_id, Consent.purpose == purpose)
        .ext(distinct_on(Consent.signer))
        .order_by(Consent.signer, *_HIGHEST_FIRST)
    )


def texts_of(organization_id: UUID) -> Select[ConsentText]:
    """All versions of an organization's texts."""
    return select(ConsentText).where(ConsentText.organization_id == organization_id)


def texts_in_use(organization_id: UUID) -> Select[ConsentText]:
    """The texts in use: the latest version for each purpose in each locale."""
    key = (ConsentText.purpose, ConsentText.locale)
    latest = (
        select(ConsentText.id)
        .where(ConsentText.organization_id == organization_id)
        .ext(distinct_on(*key))
        # By the version's number, not by time: clocks of two machines may differ.
        .order_by(*key, func.length(ConsentText.version).desc(), ConsentText.version.desc())
    )
    return select(ConsentText).where(ConsentText.id.in_(latest))


async def text_count(session: AsyncSession, organization_id: UUID, purpose: str, locale: str) -> int:
    """The number of versions for this purpose in this locale."""
    of = texts_of(organization_id).where(ConsentText.purpose == purpose, ConsentText.locale == locale)
    query = select(func.count()).select_from(of.subquery())
    return (await session.scalars(query)).one()


async def texts_by_id(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, ConsentText]:
    """The texts with these ids."""
    found = await session.scalars(select(ConsentText).where(ConsentText.id.in_(ids))) if ids else ()
    return {text.id: text for text in found}


async def organizations_by_id(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, Organization]:
    """The organizations with these ids."""
    found = await session.scalars(select(Organization).where(Organization.id.in_(ids))) if ids else ()
    return {organization.id: organization for organization in found}


async def working_sign_ins(session: AsyncSession, ids: Collection[UUID], moment: datetime) -> set[UUID]:
    """Those of these sign-ins whose link is neither used nor asked for too long ago."""
    query = select(SignIn.id).where(SignIn.id.in_(ids), SignIn.used_at.is_(None), SignIn.expires_at > moment)
    return set(await session.scalars(query)) if ids else set()
