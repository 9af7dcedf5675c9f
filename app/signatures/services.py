"""The services of this room, one record per process: opened when the process starts, closed when it ends."""

from dataclasses import dataclass

from app.kit.abuse.challenges import Challenges
from app.kit.abuse.protection import AbuseProtection
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.people.consents.policy import ConsentPolicies, open_consent_policies
from app.petitions.directory import Directory, open_directory
from app.signatures.address_limits import AddressLimits
from app.signatures.engine.engine import SigningEngine
from app.signatures.reading.counts import Counts
from app.signatures.reading.public import Breakdowns, open_breakdowns
from app.signatures.reading.streams import Streams
from app.signatures.settings import SigningSettings


@dataclass(frozen=True, slots=True)
class SigningServices:
    """What signing, confirming, withdrawing and counting need."""

    database: Database
    engine: SigningEngine
    ring: KeyRing
    directory: Directory
    counts: Counts
    breakdowns: Breakdowns
    streams: Streams
    consent_policies: ConsentPolicies
    protection: AbuseProtection
    address_limits: AddressLimits
    challenges: Challenges

    async def close(self) -> None:
        """Settle everything that was taken, then close the pool."""
        try:
            await self.engine.close()
        finally:
            await self.database.close()


def open_signing_services(
    settings: SigningSettings, database: Database, protection: AbuseProtection
) -> SigningServices:
    """Open the services and start the engine; `database` is theirs, and closed with them."""
    ring = settings.key_ring
    counts = Counts(database)
    directory = open_directory(database)
    engine = SigningEngine(
        database,
        ring.fingerprint(),
        counts.committed,
        queue_limit=settings.queue_limit,
        batch_limit=settings.batch_limit,
        retry_timeout=settings.commit_patience_seconds,
    )
    engine.start()
    return SigningServices(
        database=database,
        engine=engine,
        ring=ring,
        directory=directory,
        counts=counts,
        breakdowns=open_breakdowns(database),
        streams=Streams(directory, counts, settings.most_streams, settings.streams_per_client),
        consent_policies=open_consent_policies(database),
        protection=protection,
        address_limits=AddressLimits(
            protection, settings.address_limit, settings.address_mails, can_mail=settings.can_mail
        ),
        challenges=Challenges(ring, protection.limiter),
    )
