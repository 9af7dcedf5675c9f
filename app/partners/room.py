"""What this room brings to the doors."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from app.kit.mail.sender import MailSource
from app.kit.mail.templates import MailTemplates
from app.kit.room_interface import CarryOut, Room, Services, Sweep
from app.kit.webhooks.egress import EgressPolicy, SystemResolver
from app.partners.inbound.audit import ReceivedPosts
from app.partners.inbound.secrets.service import END_SECRET, revoke_waited
from app.partners.inbound.services import InboundServices, open_inbound_services
from app.partners.key_rotation import (
    DELIVERY_ATTEMPTS,
    DIGESTED_WEBHOOKS,
    RECEIVED_WEBHOOKS,
    WEBHOOK_ENDPOINTS,
    WEBHOOK_SECRETS,
)
from app.partners.outbound.delivery import leases
from app.partners.outbound.delivery.worker import deliver
from app.partners.outbound.endpoints import paused_mail
from app.partners.outbound.endpoints.paused_mail import EndpointMails
from app.partners.outbound.endpoints.service import END_ENDPOINT, remove_waited
from app.partners.outbound.message_types import fan_out
from app.partners.outbound.message_types.fan_out import FanOut
from app.partners.outbound.message_types.openapi import webhooks_router
from app.partners.outbound.message_types.types import MESSAGE_TYPES
from app.partners.retention import forget_webhooks
from app.partners.routes import message_type_routers, router
from app.partners.schemas import PartnerSigning
from app.partners.settings import PartnerSettings
from app.signatures.services import SigningServices


@asynccontextmanager
async def _open_inbound(services: Services) -> AsyncIterator[InboundServices]:
    inbound = open_inbound_services(
        services.settings_as(PartnerSettings), services.database, services.of(SigningServices)
    )
    try:
        yield inbound
    finally:
        await inbound.close()


@asynccontextmanager
async def _open_egress(services: Services) -> AsyncIterator[EgressPolicy]:
    yield EgressPolicy(SystemResolver(), loopback=services.settings_as(PartnerSettings).may_call_loopback)


def _sweeps(services: Services) -> Sequence[Sweep]:
    return [
        Sweep("fan_out", FanOut(services.message_types), lock_name="spread"),
        Sweep("forget_webhooks", forget_webhooks),
        Sweep("received_posts", ReceivedPosts()),
    ]


def _mail_sources(services: Services, templates: MailTemplates) -> Sequence[MailSource]:
    return [EndpointMails(services.database, services.settings_as(PartnerSettings), templates)]


def _pending_acts(_services: Services) -> Mapping[str, CarryOut]:
    return {END_SECRET: revoke_waited, END_ENDPOINT: remove_waited}


ROOM = Room(
    name="partners",
    routers=[router],
    hand_read_bodies=[PartnerSigning],
    message_types=MESSAGE_TYPES,
    message_type_routers=lambda types: [message_type_routers(types)],
    webhooks=webhooks_router,
    api_services=[_open_inbound, _open_egress],
    digested_tables=[DIGESTED_WEBHOOKS],
    sealed_columns=[WEBHOOK_SECRETS, RECEIVED_WEBHOOKS, WEBHOOK_ENDPOINTS, DELIVERY_ATTEMPTS],
    sweeps=_sweeps,
    pending_acts=_pending_acts,
    background=[deliver],
    mail_sources=_mail_sources,
    oldest_due={
        "endpoints' mails": paused_mail.OLDEST_DUE,
        "fan_out": fan_out.OLDEST_DUE,
        "webhooks": leases.OLDEST_DUE,
    },
)
