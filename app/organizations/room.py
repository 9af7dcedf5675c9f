"""What this room brings to the doors."""

from collections.abc import Sequence

from app.kit.mail.sender import MailSource
from app.kit.mail.templates import MailTemplates
from app.kit.room_interface import Room, Services, Sweep
from app.organizations import notice_mails
from app.organizations.audit import routes as audit_routes
from app.organizations.key_rotation import PENDING_ACTS
from app.organizations.notice_mails import NoticeMails
from app.organizations.notices import OwnerNotices
from app.organizations.pending_acts import routes as pending_act_routes
from app.organizations.pending_acts.carrying_out import OLDEST_DUE, CarryingOut, PendingErasures
from app.organizations.routes import router
from app.organizations.settings import OrganizationSettings


def _sweeps(services: Services) -> Sequence[Sweep]:
    return [
        Sweep("owner_notices", OwnerNotices(services.settings_as(OrganizationSettings))),
        Sweep("pending_acts", CarryingOut(services)),
    ]


def _mail_sources(services: Services, templates: MailTemplates) -> Sequence[MailSource]:
    return [NoticeMails(services.database, services.settings_as(OrganizationSettings), templates)]


ROOM = Room(
    name="organizations",
    routers=[router, audit_routes.router, pending_act_routes.router],
    personal_data=PendingErasures,
    sweeps=_sweeps,
    mail_sources=_mail_sources,
    digested_tables=[PENDING_ACTS],
    oldest_due={"notices' mails": notice_mails.OLDEST_DUE, "pending_acts": OLDEST_DUE},
)
