"""The desk: what this process needs to take in what partners bring."""

import re
from dataclasses import dataclass

from fastapi import Request

from app.kit.db import Database
from app.kit.large_bodies import LargeBodies
from app.kit.sealing import KeyRing
from app.kit.settings import Settings
from app.partners.inbound.courtesy import AT_ONCE, Courtesy
from app.partners.inbound.receiving import Reception
from app.signatures.hot import HotRoom

# Where webhooks come in: only there may a body be larger than elsewhere, and a stranger's is not parsed.
LARGE = re.compile(r"/v1/partners/[^/]+/(?:signatures|petitions/[^/]+/action-network/[^/]+)")
# Bodies of the largest size that may be there at the same time.
_LARGE_AT_ONCE = 2 * AT_ONCE


@dataclass(frozen=True)
class Desk:
    """One per process."""

    settings: Settings
    database: Database
    ring: KeyRing
    room: HotRoom
    courtesy: Courtesy
    reception: Reception
    bodies: LargeBodies

    async def close(self) -> None:
        """Finish what is being worked on."""
        await self.reception.close()


def open_desk(settings: Settings, database: Database, room: HotRoom) -> Desk:
    """Ready to take in what comes."""
    courtesy = Courtesy(lambda: room.queue.is_busy)
    reception = Reception(database, settings.key_ring, courtesy)
    longest = settings.partner_max_body_bytes
    bodies = LargeBodies(longest, _LARGE_AT_ONCE * longest)
    return Desk(settings, database, settings.key_ring, room, courtesy, reception, bodies)


def desk_of(request: Request) -> Desk:
    """This process's desk."""
    desk: Desk = request.app.state.desk
    return desk
