"""What protects the routes of one process from abuse: rate limits, and client addresses known by a digest only."""

from dataclasses import dataclass

from app.kit.abuse.address_digests import AddressDigests, ClientIpDigester
from app.kit.abuse.client_addresses import CountedClients, TrustedProxies, client_address
from app.kit.abuse.rate_limits import Limiter, open_limiter
from app.kit.abuse.settings import AbuseSettings
from app.kit.database.session import Database
from app.kit.web.asgi import Scope

# A network (an IPv4 /24, an IPv6 /48) holds many clients, and is allowed so many times what one of them is.
NETWORK_FACTOR = 8


@dataclass(frozen=True, slots=True)
class AbuseProtection:
    """One per process."""

    limiter: Limiter
    proxies: TrustedProxies
    digester: ClientIpDigester
    clients: CountedClients

    def client_key(self, scope: Scope) -> bytes | None:
        """Under which key the client's streams are counted; None when they are not."""
        return self.clients.key_of(client_address(scope, self.proxies))

    async def hit(self, scope: Scope, per_hour: int, *what: str | bytes) -> bool:
        """Count one more for the client that sent this request; whether it is within so many in an hour."""
        digests = await self.digester.digests(client_address(scope, self.proxies))
        return await self.hit_by(digests, per_hour, *what)

    async def hit_by(self, digests: AddressDigests | None, per_hour: int, *what: str | bytes) -> bool:
        """Count one more for a client's address and, if that is within the limit, for its network; whether both are.

        So a client that goes on and on does not use up what its neighbours share. One without an address (a unix
        socket), or of whom no digest can be had, is within every limit.
        """
        if digests is None:
            return True
        return await self.limiter.hit_in_turn(
            [
                (f"{per_hour} per hour", (*what, digests.client)),
                (f"{per_hour * NETWORK_FACTOR} per hour", (*what, digests.network)),
            ]
        )


def open_protection(settings: AbuseSettings, database: Database) -> AbuseProtection:
    """Ready to count; the caller closes the limiter."""
    proxies = TrustedProxies(settings.trusted_proxies)
    clients = CountedClients([*settings.trusted_proxies, *settings.uncounted_networks])
    return AbuseProtection(open_limiter(settings), proxies, ClientIpDigester(settings.key_ring, database), clients)
