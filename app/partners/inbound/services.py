"""The desk: what this process needs to take in what partners bring."""

import re
from dataclasses import dataclass

from fastapi import Request

from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.settings import Settings
from app.kit.web.large_bodies import LargeBodies
from app.partners.inbound.fair_share import AT_ONCE, Courtesy
from app.partners.inbound.idempotency import Reception
from app.signatures.engine.engine import SigningEngine

# Where webhooks come in: only there may a body be larger than elsewhere, and a stranger's is not parsed.
LARGE = re.compile(r"/v1/partners/[^/]+/(?:signatures|petitions/[^/]+/action-network/[^/]+)")
# Bodies of the largest size that may be there at the same time.
_LARGE_AT_ONCE = 2 * AT_ONCE


@dataclass(frozen=True)
class InboundServices:
    """One per process."""

    settings: Settings
    database: Database
    ring: KeyRing
    room: SigningEngine
    courtesy: Courtesy
    reception: Reception
    bodies: LargeBodies

    async def close(self) -> None:
        """Finish what is being worked on."""
        await self.reception.close()


def open_inbound_services(settings: Settings, database: Database, room: SigningEngine) -> InboundServices:
    """Ready to take in what comes."""
    courtesy = Courtesy(lambda: room.queue.is_busy)
    reception = Reception(database, settings.key_ring, courtesy)
    longest = settings.partner_max_body_bytes
    bodies = LargeBodies(longest, _LARGE_AT_ONCE * longest)
    return InboundServices(settings, database, settings.key_ring, room, courtesy, reception, bodies)


def inbound_services(request: Request) -> InboundServices:
    """This process's desk."""
    desk: InboundServices = request.app.state.desk
    return desk
