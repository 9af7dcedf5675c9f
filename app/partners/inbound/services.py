"""The services by which this process takes in what partners bring."""

from dataclasses import dataclass

from fastapi import Request

from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.room_interface import services
from app.kit.web.large_bodies import LargeBodies
from app.partners.inbound.fair_share import LARGE_AT_ONCE, FairShare
from app.partners.inbound.idempotency import IdempotentReceiver
from app.partners.settings import PartnerSettings
from app.signatures.services import SigningServices

# Bodies of the largest size that may be there at the same time.
_LARGE_BODIES = 2 * LARGE_AT_ONCE


@dataclass(frozen=True)
class InboundServices:
    """One per process."""

    settings: PartnerSettings
    database: Database
    ring: KeyRing
    signing: SigningServices
    fair_share: FairShare
    receiver: IdempotentReceiver
    bodies: LargeBodies

    async def close(self) -> None:
        """Finish what is being worked on."""
        await self.receiver.close()


def open_inbound_services(settings: PartnerSettings, database: Database, signing: SigningServices) -> InboundServices:
    """Ready to take in what comes."""
    fair_share = FairShare(lambda: signing.engine.is_busy)
    receiver = IdempotentReceiver(database, settings.key_ring, fair_share)
    longest = settings.partner_max_body_bytes
    bodies = LargeBodies(longest, _LARGE_BODIES * longest)
    return InboundServices(settings, database, settings.key_ring, signing, fair_share, receiver, bodies)


def inbound_services(request: Request) -> InboundServices:
    """Those of this process."""
    return services(request).of(InboundServices)
