"""Who is calling: the dependencies by which a route asks for a key and for a role.

A route that everybody may call and that tells staff more takes a `Caller` and declares
`openapi_extra=KEY_OPTIONAL`; a route for staff takes an `Owner`, a `Campaigner`, an `AnyStaff` or its own
`Annotated[Principal, Depends(staff("analyst", "data_officer"))]`.

Rooms above this one have callers of their own: `app.state.recognizers` says, by the beginning of a key, who knows them.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.session import Database
from app.kit.problems import Forbidden, Unauthorized
from app.organizations import service
from app.organizations.keys import looks_like_a_key
from app.organizations.principals import STAFF_ROLES, Principal

# Only for the documentation: it takes a header it does not understand for none, and we do not.
_documented = HTTPBearer(
    scheme_name="key",
    bearerFormat="mtd_<role>_<secret>",
    description="A key of an organization, or of somebody who is signed in (`mtd_person_<secret>`)",
    auto_error=False,
)
# FastAPI puts this beside the scheme it writes for the route: with a key, or without one.
KEY_OPTIONAL: dict[str, Any] = {"security": [{}]}

Recognizer: TypeAlias = Callable[[AsyncSession, str], Awaitable[Principal | None]]


async def authenticate(
    request: Request, _scheme: Annotated[HTTPAuthorizationCredentials | None, Security(_documented)] = None
) -> Principal | None:
    """The holder of the key sent along, None when none was; Unauthorized when it opens nothing.

    A key that fails is never taken for no key at all: its sender would not notice seeing less than it should.
    The look-up has a short transaction of its own: its row is not locked while the request is answered.
    """
    key = _key_of(request)
    if key is None:
        return None
    recognize = _recognizer_of(request, key)
    if recognize is not None:
        async with _database(request).transaction() as session:
            principal = await recognize(session, key)
        if principal is not None:
            return principal
    raise Unauthorized


def _recognizer_of(request: Request, key: str) -> Recognizer | None:
    """Who may know the holder of this key; None when nobody can."""
    if looks_like_a_key(key):
        return service.recognize
    others: Mapping[str, Recognizer] = getattr(request.app.state, "recognizers", {})
    return next((recognize for prefix, recognize in others.items() if key.startswith(prefix)), None)


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _key_of(request: Request) -> str | None:
    """What the Authorization header holds in a key's place; None without it, "" when it is no Bearer."""
    headers = request.headers.getlist("Authorization")
    if not headers:
        return None
    scheme, _, key = headers[0].partition(" ")
    return key.strip() if len(headers) == 1 and scheme.lower() == "bearer" else ""


Caller = Annotated[Principal | None, Depends(authenticate)]


def staff(*roles: str) -> Callable[[Principal | None], Awaitable[Principal]]:
    """A dependency that lets these roles pass, and owners always; Unauthorized, Forbidden."""
    allowed = {"owner", *roles}

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
