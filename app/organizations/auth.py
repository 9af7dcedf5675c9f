"""Authentication and roles: the dependencies by which a route asks for a key and for a role.

A route that everybody may call and that tells staff more takes a `Caller` and declares
`openapi_extra=KEY_OPTIONAL`; a route for staff takes an `Owner`, a `Campaigner`, an `AnyStaff` or its own
`Annotated[Principal, Depends(staff("analyst", "data_officer"))]`.

Rooms above this one have callers of their own: each says in its `room.py`, by the beginning of a key, who knows them.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_network
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.kit.abuse.client_addresses import client_address
from app.kit.abuse.protection import AbuseProtection
from app.kit.abuse.rate_limits import TooManyRequests
from app.kit.logs import ThrottledWarning
from app.kit.problems import Forbidden, Unauthorized
from app.kit.room_interface import services
from app.organizations import service
from app.organizations.keys import looks_like_a_key
from app.organizations.principals import NO_ORGANIZATION, STAFF_ROLES, Principal
from app.organizations.settings import OrganizationSettings

# The reason is the key's id: whoever has stolen a key writes one line a minute with it.
_elsewhere = ThrottledWarning("a key was used from elsewhere")
# For the API's documentation only: it treats a header it does not understand as none; `authenticate` refuses it.
_documented = HTTPBearer(
    scheme_name="key",
    bearerFormat="mtd_<role>_<secret>",
    description="A key of an organization, or of somebody who is signed in (`mtd_person_<secret>`)",
    auto_error=False,
)
# FastAPI adds this to the route's security schemes: the route can be called with a key, or without one.
KEY_OPTIONAL: dict[str, Any] = {"security": [{}]}


async def authenticate(
    request: Request, _scheme: Annotated[HTTPAuthorizationCredentials | None, Security(_documented)] = None
) -> Principal | None:
    """The holder of the request's key, None when there is no key; Unauthorized when it is unknown or has ended.

    An invalid key is never treated as no key: its sender would not notice that it is shown less than it should be.
    The look-up has a short transaction of its own, so that the key's row is not locked while the request is answered.
    """
    key = _key_of(request)
    if key is None:
        return None
    opened = services(request)
    recognize = service.recognize if looks_like_a_key(key) else opened.recognizer_of(key)
    if recognize is not None:
        async with opened.database.transaction() as session:
            principal: Principal | None = await recognize(session, key)
        if principal is not None:
            await _check_limits(request, principal)
            return principal
    raise Unauthorized


async def _check_limits(request: Request, principal: Principal) -> None:
    """Unauthorized from elsewhere than the key's networks, TooManyRequests; a person's session has no such limits.

    Whoever has stolen a key is not told that it would work from elsewhere.
    """
    if principal.organization_id == NO_ORGANIZATION:
        return
    opened = services(request)
    protection, settings = opened.of(AbuseProtection), opened.settings_as(OrganizationSettings)
    if principal.networks is not None:
        address = client_address(request.scope, protection.proxies)
        if address is None or not any(address in network for network in map(_network, principal.networks)):
            _elsewhere.add(str(principal.key_id))
            raise Unauthorized
    most = principal.requests_per_minute or settings.key_requests_per_minute
    for key_id, limit in ((principal.key_id, most), *principal.shared_limits):
        if not await protection.limiter.hit(f"{limit} per minute", "key", str(key_id)):
            raise TooManyRequests


_network = lru_cache(maxsize=1024)(ip_network)


def _key_of(request: Request) -> str | None:
    """The bearer token of the Authorization header; None without the header, "" when it holds no bearer token."""
    headers = request.headers.getlist("Authorization")
    if not headers:
        return None
    scheme, _, key = headers[0].partition(" ")
    return key.strip() if len(headers) == 1 and scheme.lower() == "bearer" else ""


Caller = Annotated[Principal | None, Depends(authenticate)]

F = TypeVar("F", bound=Callable[..., Any])


def for_roles(*roles: str) -> Callable[[F], F]:
    """Mark a dependency that lets only the holders of such keys pass: the roles table is read off these marks."""

    def mark(dependency: F) -> F:
        vars(dependency)["roles"] = frozenset(roles)
        return dependency

    return mark


def roles_of(dependant: Dependant) -> frozenset[str] | None:
    """Whose keys a route lets pass, by its dependencies; None when it asks for no key.

    What is within a route is decided there: an owner sees every organization, a partner only its own.
    """
    marked: frozenset[str] | None = getattr(dependant.call, "roles", None)
    for inner in dependant.dependencies:
        roles = roles_of(inner)
        if roles is not None:
            marked = roles if marked is None else marked & roles
    return marked


def staff(*roles: str) -> Callable[[Principal | None], Awaitable[Principal]]:
    """A dependency that lets these roles pass, and owners always; Unauthorized, Forbidden."""
    allowed = {"owner", *roles}

    @for_roles(*allowed)
    async def pass_staff(caller: Caller) -> Principal:
        if caller is None:
            raise Unauthorized
        if caller.role not in allowed:
            raise Forbidden
        return caller

    return pass_staff


Owner = Annotated[Principal, Depends(staff())]
Campaigner = Annotated[Principal, Depends(staff("campaigner"))]
AnyStaff = Annotated[Principal, Depends(staff(*STAFF_ROLES))]
