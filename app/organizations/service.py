"""Organizations and their API keys: creating, renaming; making keys, authenticating with them, revoking them."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.bearer_secrets import digest_of
from app.kit.problems import Conflict, Invalid, NotFound
from app.organizations import queries
from app.organizations.keys import new_key, prefix_of
from app.organizations.models import ApiKey, Organization
from app.organizations.principals import OPERATOR, STAFF_ROLES, Principal

# The time of the last use is exact to this: a busy key would otherwise write its row with every request.
_USE_NOTED_EVERY = timedelta(minutes=1)


class OrganizationNotFound(NotFound):
    """There is no such organization."""

    slug = "organization-not-found"


class ApiKeyNotFound(NotFound):
    """There is no such key of this organization."""

    slug = "api-key-not-found"


class SlugTaken(Conflict):
    """Another organization has this slug."""

    slug = "slug-taken"


class LastOwnerKey(Conflict):
    """This is the last key that can make keys; make another owner key first."""

    slug = "last-owner-key"


class RoleNotOffered(Invalid):
    """Staff roles are for the movement, and the role `partner` is for partners."""

    slug = "role-not-offered"


class ExpiryPast(Invalid):
    """A key must expire in the future."""

    slug = "expiry-past"


async def create_organization(session: AsyncSession, slug: str, name: str) -> Organization:
    """A new partner; SlugTaken."""
    organization = Organization(slug=slug, name=name, kind="partner")
    session.add(organization)
    try:
        await session.flush()
    except IntegrityError:
        raise SlugTaken from None
    return organization


async def find(session: AsyncSession, ref: str, principal: Principal = OPERATOR) -> Organization:
    """An organization by id or slug, if this principal may see it; OrganizationNotFound."""
    organization = await queries.find(session, ref, principal)
    if organization is None:
        raise OrganizationNotFound
    return organization


async def rename(session: AsyncSession, organization: Organization, name: str) -> None:
    """Give the organization another name; its slug stays, since links hold it."""
    organization.name = name
    await session.flush()


async def create_key(
    session: AsyncSession,
    organization: Organization,
    role: str,
    label: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key, and its text, which is stored nowhere; RoleNotOffered, ExpiryPast."""
    offered = STAFF_ROLES if organization.kind == "movement" else ("partner",)
    if role not in offered:
        raise RoleNotOffered
    if expires_at is not None and expires_at <= now():
        raise ExpiryPast
    key = new_key(role)
    api_key = ApiKey(
        organization_id=organization.id,
        role=role,
        label=label,
        prefix=prefix_of(key),
        digest=digest_of(key),
        expires_at=expires_at,
    )
    session.add(api_key)
    await session.flush()
    return api_key, key


async def revoke_key(session: AsyncSession, organization: Organization, key_id: UUID) -> None:
    """Revoke a key at once; revoking it again is harmless; ApiKeyNotFound, LastOwnerKey."""
    moment = now()
    of_organization = queries.keys_of(organization.id)
    # All live owner keys are locked, in one order: two owners who revoke each other's key at the same time cannot both
    # succeed and leave none.
    owners = of_organization.where(ApiKey.role == "owner", queries.live(moment)).order_by(ApiKey.id)
    live_owners = {key.id for key in await session.scalars(owners.with_for_update())}
    api_key = await session.scalar(of_organization.where(ApiKey.id == key_id).with_for_update())
    if api_key is None:
        raise ApiKeyNotFound
    if live_owners == {key_id}:
        raise LastOwnerKey
    api_key.revoked_at = api_key.revoked_at or moment
    await session.flush()


async def recognize(session: AsyncSession, key: str) -> Principal | None:
    """The holder of a live key; None when there is no such key. Its use is noted to the minute."""
    moment = now()
    row = await queries.key_of_digest(session, digest_of(key), moment)
    if row is None:
        return None
    key_id, organization_id, organization, role, last_used_at = row
    if last_used_at is None or moment - last_used_at >= _USE_NOTED_EVERY:
        await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=moment))
    return Principal(key_id, organization_id, organization, role)
