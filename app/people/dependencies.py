"""FastAPI dependencies of this room: who is signed in, the key ring, the limiter; and the names of our cookies."""

from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import Depends, Request

from app.kit.abuse.protection import AbuseProtection
from app.kit.abuse.rate_limits import Limiter
from app.kit.crypto.sealing import KeyRing
from app.kit.problems import Forbidden, Unauthorized
from app.kit.room_interface import services
from app.organizations.auth import Caller, for_roles
from app.organizations.principals import PERSON

# Shows that a browser asked for a link; and that somebody has signed in with it before.
BINDING_COOKIE = "mtd_binding"
DEVICE_COOKIE = "mtd_device"


class SignedIn(NamedTuple):
    """Somebody on their own page."""

    signer: bytes
    session_id: UUID


@for_roles(PERSON)
async def person(caller: Caller) -> SignedIn:
    """Who is signed in; Unauthorized without a key, Forbidden with an organization's."""
    if caller is None:
        raise Unauthorized
    if caller.signer is None:
        raise Forbidden
    return SignedIn(caller.signer, caller.key_id)


CurrentPerson = Annotated[SignedIn, Depends(person)]


def key_ring(request: Request) -> KeyRing:
    """The keys of this service."""
    return services(request).key_ring


Ring = Annotated[KeyRing, Depends(key_ring)]


def limiter_of(request: Request) -> Limiter:
    """The rate limiter of this process."""
    return services(request).of(AbuseProtection).limiter
