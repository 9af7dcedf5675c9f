"""A connection pool that connects to the very address that was checked (`egress.py`), and to no other."""

import asyncio
import ssl
from typing import Any

from aiohttp import BaseConnector, ClientRequest

from app.kit.webhooks.egress import Address, EgressPolicy, Target
from app.kit.webhooks.response_handler import LIFETIME, BoundedHandler

# Seconds until a connection must be there, TLS included; and until one address is given up for the next.
_CONNECTING = 5.0


class CheckedConnector(BaseConnector):
    """The pool of a session. It resolves and checks a host for each connection that it opens.

    Nothing of aiohttp's that resolves or connects is underneath: `BaseConnector` alone opens no connection at all.
    """

    def __init__(self, policy: EgressPolicy, tls: ssl.SSLContext, *, is_kept: bool) -> None:
        # Whoever delivers bounds the number of connections, and each connection its own life.
        more: dict[str, Any] = {"keepalive_timeout": LIFETIME} if is_kept else {"force_close": True}
        super().__init__(limit=0, **more)
        self._policy = policy
        self._tls = tls

    async def _create_connection(self, req: ClientRequest, *_: object) -> BoundedHandler:
        """A new connection to the first of the host's addresses that takes it."""
        target = self._policy.read(str(req.url))
        async with asyncio.timeout(_CONNECTING):
            addresses = await self._policy.addresses(target)
            for address in addresses[:-1]:
                try:
                    async with asyncio.timeout(_CONNECTING / len(addresses)):
                        return await self._open(target, address)
                except ssl.SSLError:
                    raise
                except OSError:
                    continue
            return await self._open(target, addresses[-1])

    async def _open(self, target: Target, address: Address) -> BoundedHandler:
        loop = asyncio.get_running_loop()
        tls = self._tls if target.scheme == "https" else None
        _, handler = await loop.create_connection(
            lambda: BoundedHandler(loop),
            str(address),
            target.port,
            ssl=tls,
            server_hostname=target.host if tls else None,
        )
        return handler
