"""Organizations and their API keys: creating, renaming; making keys, authenticating with them, revoking them.

A key never outlives the one it was made with: it expires no later, and is revoked with it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.bearer_secrets import digest_of
from app.kit.problems import Conflict, Invalid, NotFound, Unauthorized
from app.organizations import queries
from app.organizations.keys import new_key, prefix_of
from app.organizations.models import ApiKey, Organization, PendingAct
from app.organizations.principals import OPERATOR, STAFF_ROLES, Principal

# The time of the last use is exact to this: a busy key would otherwise write its row with every request.
_USE_NOTED_EVERY = timedelta(minutes=1)
# How long a key lives at the most, unless the operator has set another time (`settings.py`).
LONGEST_LIFE = timedelta(days=365)


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


class ExpiryTooLate(Invalid):
    """A key lives no longer than the one it is made with, nor than the longest life of a key."""

    slug = "expiry-too-late"


class NetworkTooWide(Invalid):
    """A key works from no network from which the one it is made with does not."""

    slug = "network-too-wide"


class KeyLimits(NamedTuple):
    """What limits the use of a key: from where, and how often a minute."""

    networks: Sequence[str] | None = None
    requests_per_minute: int | None = None


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
    *,
    limits: KeyLimits = KeyLimits(),  # noqa: B008 - never changed
    maker: Principal = OPERATOR,
    longest: timedelta = LONGEST_LIFE,
) -> tuple[ApiKey, str]:
    """A new key, and its text, which is stored nowhere; RoleNotOffered, ExpiryPast, ExpiryTooLate, Unauthorized.

    It expires as late as it may unless an earlier time is asked for. `maker`: with whose key it is made.
    """
    offered = STAFF_ROLES if organization.kind == "movement" else ("partner",)
    if role not in offered:
        raise RoleNotOffered
    made = await _maker(session, maker)
    key = new_key(role)
    api_key = ApiKey(
        organization_id=organization.id,
        role=role,
        label=label,
        prefix=prefix_of(key),
        digest=digest_of(key),
        expires_at=_expiry(expires_at, made, longest),
        made_by=maker.key_id,
        networks=_within(limits.networks, made),
        requests_per_minute=_no_more(limits.requests_per_minute, made),
    )
    session.add(api_key)
    await session.flush()
    return api_key, key


async def _maker(session: AsyncSession, maker: Principal) -> ApiKey | None:
    """The row of the key it is made with, locked until the commit: whoever revokes it waits, and then sees what it
    made. None for the command line; Unauthorized when the key has ended meanwhile."""
    if maker.key_id == OPERATOR.key_id:
        return None
    query = select(ApiKey).where(ApiKey.id == maker.key_id, queries.live(now()))
    made = await session.scalar(query.with_for_update(read=True))
    if made is None:
        raise Unauthorized
    return made


def _expiry(asked: datetime | None, maker: ApiKey | None, longest: timedelta) -> datetime:
    moment = now()
    latest = moment + longest
    if maker is not None and maker.expires_at is not None:
        latest = min(latest, maker.expires_at)
    if asked is None:
        return latest
    if asked <= moment:
        raise ExpiryPast
    if asked > latest:
        raise ExpiryTooLate
    return asked


def _within(networks: Sequence[str] | None, maker: ApiKey | None) -> list[str] | None:
    """A key that works from some networks alone makes none that works from elsewhere."""
    if maker is None or maker.networks is None:
        return list(networks) if networks is not None else None
    if networks is None:
        return maker.networks
    around = [ip_network(network) for network in maker.networks]
    if not all(any(_holds(outer, ip_network(network)) for outer in around) for network in networks):
        raise NetworkTooWide
    return list(networks)


def _no_more(requests_per_minute: int | None, maker: ApiKey | None) -> int | None:
    """A key that may be used so often makes none that may be used more often."""
    most = maker.requests_per_minute if maker is not None else None
    return min((limit for limit in (requests_per_minute, most) if limit is not None), default=None)


def _holds(outer: IPv4Network | IPv6Network, inner: IPv4Network | IPv6Network) -> bool:
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


async def rotate_key(session: AsyncSession, organization: Organization, key_id: UUID) -> tuple[ApiKey, str]:
    """A fresh text for a live key, which stays what it is and ends when it would have; the former text ends at once.

    So keys are renewed that would otherwise end with the one they were made with. ApiKeyNotFound.
    """
    of_organization = queries.keys_of(organization.id).where(ApiKey.id == key_id, queries.live(now()))
    api_key = await session.scalar(of_organization.with_for_update())
    if api_key is None:
        raise ApiKeyNotFound
    key = new_key(api_key.role)
    api_key.prefix, api_key.digest = prefix_of(key), digest_of(key)
    await session.flush()
    return api_key, key


async def revoke_key(session: AsyncSession, organization: Organization, key_id: UUID) -> None:
    """Revoke a key and all that were made with it, at once; harmless to repeat; ApiKeyNotFound, LastOwnerKey.

    What these keys asked for and still waits is cancelled.
    """
    moment = now()
    of_organization = queries.keys_of(organization.id)
    # All live owner keys are locked, in one order: two owners who revoke each other's key at the same time cannot both
    # succeed and leave none.
    owners = of_organization.where(ApiKey.role == "owner", queries.live(moment)).order_by(ApiKey.id)
    live_owners = {key.id for key in await session.scalars(owners.with_for_update())}
    api_key = await session.scalar(of_organization.where(ApiKey.id == key_id).with_for_update())
    if api_key is None:
        raise ApiKeyNotFound
    ended = await _lock_descendants(session, key_id)
    if live_owners and live_owners <= ended:
        raise LastOwnerKey
    await session.flush()
    revoked = update(ApiKey).where(ApiKey.id.in_(ended), ApiKey.revoked_at.is_(None)).values(revoked_at=moment)
    await session.execute(revoked)
    waiting = update(PendingAct).where(PendingAct.asked_by.in_(ended), PendingAct.state == "waiting")
    await session.execute(waiting.values(state="cancelled", signer=None, decided_at=moment))


async def _lock_descendants(session: AsyncSession, key_id: UUID) -> set[UUID]:
    """A key and all that were made with it, locked. Looked for again until there are no more: whoever is making one
    holds its maker's row, so that we wait for them and then see it."""
    locked = {key_id}
    while found := await queries.with_descendants(session, key_id) - locked:
        rows = select(ApiKey.id).where(ApiKey.id.in_(found)).order_by(ApiKey.id).with_for_update()
        locked |= set(await session.scalars(rows))
    return locked


async def recognize(session: AsyncSession, key: str) -> Principal | None:
    """The holder of a live key; None when there is no such key. Its use is noted to the minute."""
    moment = now()
    row = await queries.key_of_digest(session, digest_of(key), moment)
    if row is None:
        return None
    if row.last_used_at is None or moment - row.last_used_at >= _USE_NOTED_EVERY:
        await session.execute(update(ApiKey).where(ApiKey.id == row.id).values(last_used_at=moment))
    return Principal(
        row.id,
        row.organization_id,
        row.slug,
        row.role,
        networks=tuple(row.networks) if row.networks is not None else None,
        requests_per_minute=row.requests_per_minute,
        # Whose maker is limited is limited itself.
        shared_limits=await queries.shared_limits(session, row.id) if row.requests_per_minute else (),
    )
