"""What kit brings to the doors: operations, the API's documentation, and what protects every route from abuse."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.kit.abuse.address_digests import ADDRESS_SALTS, forget_salts
from app.kit.abuse.protection import AbuseProtection, open_protection
from app.kit.abuse.settings import AbuseSettings
from app.kit.crypto import seal_counts
from app.kit.mail import preview_page
from app.kit.mail.failures import forget_mail_failures
from app.kit.room_interface import Room, Services, Sweep
from app.kit.sweeps import forget_sweep_failures
from app.kit.web import api_docs, health


@asynccontextmanager
async def _open(services: Services) -> AsyncIterator[AbuseProtection]:
    protection = open_protection(services.settings_as(AbuseSettings), services.database)
    try:
        yield protection
    finally:
        await protection.limiter.close()


@dataclass(frozen=True, slots=True)
class _Counting:
    """That this process counts its seals."""


@asynccontextmanager
async def _count_seals(services: Services) -> AsyncIterator[_Counting]:
    async with seal_counts.counting(services.key_ring, services.database):
        yield _Counting()


ROOM = Room(
    name="kit",
    routers=[health.router, api_docs.router, preview_page.router],
    services=[_open, _count_seals],
    sealed_columns=[ADDRESS_SALTS],
    sweeps=lambda _services: [
        Sweep("forget_salts", forget_salts),
        Sweep("forget_mail_failures", forget_mail_failures),
        Sweep("forget_sweep_failures", forget_sweep_failures),
    ],
)
