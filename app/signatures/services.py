"""The services of this room, one record per process: opened when the process starts, closed when it ends."""

from dataclasses import dataclass

from app.kit.abuse.challenges import Challenges
from app.kit.abuse.client_addresses import ClientIpDigester, TrustedProxies
from app.kit.abuse.rate_limits import Limiter
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.settings import Settings
from app.people.consents.policy import Asking, open_asking
from app.petitions.directory import Directory, open_directory
from app.signatures.engine.engine import SigningEngine
from app.signatures.reading.breakdown import Breakdowns, open_breakdowns
from app.signatures.reading.counts import Counts
from app.signatures.reading.streams import Streams


@dataclass(frozen=True, slots=True)
class SigningServices:
    """What signing, confirming, withdrawing and counting need."""

    engine: SigningEngine
    ring: KeyRing
    directory: Directory
    counts: Counts
    breakdowns: Breakdowns
    streams: Streams
    asking: Asking
    proxies: TrustedProxies
    addresses: ClientIpDigester
    limiter: Limiter
    challenges: Challenges

    async def close(self) -> None:
        """Settle everything that was taken."""
        await self.engine.close()


def open_signing_services(settings: Settings, database: Database, limiter: Limiter) -> SigningServices:
    """Open the services and start the engine."""
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
        engine=engine,
        ring=ring,
        directory=directory,
        counts=counts,
        breakdowns=open_breakdowns(database),
        streams=Streams(directory, counts, settings.stream_limit),
        asking=open_asking(database),
        proxies=TrustedProxies(settings.trusted_proxies),
        addresses=ClientIpDigester(ring, database),
        limiter=limiter,
        challenges=Challenges(ring, limiter),
    )
