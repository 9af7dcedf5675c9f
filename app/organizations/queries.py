"""Queries about organizations and their keys."""

from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.text.fields import as_id
from app.organizations.models import ApiKey, Organization
from app.organizations.principals import OPERATOR, Principal

# A live key: what it is, whose, when it was last used, and what limits it.
KeyRow: TypeAlias = Row[UUID, UUID, str, str, datetime | None, list[str] | None, int | None]
_DESCENDANTS = text("""
    WITH RECURSIVE line AS (
        SELECT id FROM api_keys WHERE id = :key_id
        UNION SELECT k.id FROM api_keys AS k JOIN line ON k.made_by = line.id
    ) SELECT id FROM line
""")

# The limits of the keys a key was made with, nearest first. A key never has a wider limit than its maker, so that only
# those that are narrower than all above them say anything of their own.
_SHARED_LIMITS = text("""
    WITH RECURSIVE line AS (
        SELECT id, made_by, organization_id, requests_per_minute, 0 AS distance FROM api_keys WHERE id = :key_id
        UNION ALL SELECT k.id, k.made_by, k.organization_id, k.requests_per_minute, line.distance + 1
            FROM api_keys AS k JOIN line ON k.id = line.made_by AND k.organization_id = line.organization_id
            WHERE k.requests_per_minute IS NOT NULL
    ) SELECT (array_agg(id ORDER BY distance DESC))[1] AS id, requests_per_minute FROM line
    GROUP BY requests_per_minute HAVING max(distance) > 0 ORDER BY requests_per_minute
""")


def live(moment: datetime) -> ColumnElement[bool]:
    """The condition that a key is neither revoked nor expired at this moment."""
    return and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > moment))


def visible_to(principal: Principal | None) -> Select[Organization]:
    """The organizations this principal may see: staff see all, a partner its own, everybody else none."""
    query = select(Organization)
    if principal is not None and principal.is_staff:
        return query
    return query.where(Organization.id == (principal.organization_id if principal is not None else None))


async def find(session: AsyncSession, ref: str, principal: Principal = OPERATOR) -> Organization | None:
    """An organization by id or slug, if this principal may see it; without a principal, any organization."""
    id_ = as_id(ref)
    named = Organization.id == id_ if id_ else Organization.slug == ref
    return await session.scalar(visible_to(principal).where(named))


async def find_partner(session: AsyncSession, ref: str) -> Organization | None:
    """A partner by id or slug. A row is read in any case, the movement's if need be: so it takes as long."""
    id_ = as_id(ref)
    named = Organization.id == id_ if id_ else Organization.slug == ref
    is_movement = Organization.kind == "movement"
    query = select(Organization).where(or_(is_movement, named)).order_by(is_movement).limit(1)
    found = await session.scalar(query)
    return found if found is not None and found.kind == "partner" else None


def keys_of(organization_id: UUID) -> Select[ApiKey]:
    """All keys of an organization, revoked and expired ones included."""
    return select(ApiKey).where(ApiKey.organization_id == organization_id)


async def with_descendants(session: AsyncSession, key_id: UUID) -> set[UUID]:
    """A key, and all keys that were made with it, or with these."""
    return set(await session.scalars(_DESCENDANTS, {"key_id": key_id}))


async def shared_limits(session: AsyncSession, key_id: UUID) -> tuple[tuple[UUID, int], ...]:
    """What limits a key together with others: (ancestor, requests a minute) within its organization.

    Otherwise a limited key would make itself as many as it likes, each with a limit of its own.
    """
    found = await session.execute(_SHARED_LIMITS, {"key_id": key_id})
    return tuple((row.id, row.requests_per_minute) for row in found)


async def key_of_digest(session: AsyncSession, digest: bytes, moment: datetime) -> KeyRow | None:
    """The live key with this digest."""
    query = (
        select(
            ApiKey.id,
            ApiKey.organization_id,
            Organization.slug,
            ApiKey.role,
            ApiKey.last_used_at,
            ApiKey.networks,
            ApiKey.requests_per_minute,
        )
        .join(Organization, Organization.id == ApiKey.organization_id)
        .where(ApiKey.digest == digest, live(moment))
    )
    return (await session.execute(query)).one_or_none()
