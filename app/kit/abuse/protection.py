"""What protects the routes of one process from abuse: rate limits, and client addresses known by a digest only."""

from dataclasses import dataclass

from app.kit.abuse.address_digests import ClientIpDigester
from app.kit.abuse.client_addresses import CountedClients, TrustedProxies, client_address
from app.kit.abuse.rate_limits import Limiter, open_limiter
from app.kit.abuse.settings import AbuseSettings
from app.kit.database.session import Database
from app.kit.web.asgi import Scope


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

    async def client_digest(self, scope: Scope) -> bytes | None:
        """The digest of the client's address; None when it has none (a unix socket), or no salt can be had."""
        return await self.digester.digest(client_address(scope, self.proxies))


def open_protection(settings: AbuseSettings, database: Database) -> AbuseProtection:
    """Ready to count; the caller closes the limiter."""
    proxies = TrustedProxies(settings.trusted_proxies)
    clients = CountedClients([*settings.trusted_proxies, *settings.uncounted_networks])
    return AbuseProtection(open_limiter(settings), proxies, ClientIpDigester(settings.key_ring, database), clients)
