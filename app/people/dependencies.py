"""Who is signed in, and where a request comes from: what the routes of this room ask for."""

from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import Depends, Request

from app.kit.abuse.client_addresses import ClientIpDigester, client_address
from app.kit.abuse.rate_limits import Limiter
from app.kit.crypto.sealing import KeyRing
from app.kit.problems import Forbidden, Unauthorized
from app.organizations.auth import Caller


class SignedIn(NamedTuple):
    """Somebody on their own page."""

    signer: bytes
    session_id: UUID


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
    ring: KeyRing = request.app.state.settings.key_ring
    return ring


Ring = Annotated[KeyRing, Depends(key_ring)]


def limiter_of(request: Request) -> Limiter:
    """This process's limits."""
    limiter: Limiter = request.app.state.limiter
    return limiter


async def client_digest(request: Request) -> bytes | None:
    """The digest of the address this comes from; None when it has none (a unix socket), or no salt can be had."""
    addresses: ClientIpDigester = request.app.state.addresses
    return await addresses.digest(client_address(request.scope, request.app.state.trusted_proxies))
