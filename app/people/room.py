"""What this room brings to the doors."""

from collections.abc import Sequence

from app.kit.abuse.protection import AbuseProtection
from app.kit.mail.sender import MailSource
from app.kit.mail.templates import MailTemplates
from app.kit.room_interface import Room, Services, Sweep
from app.people import me_routes, routes, sign_in_routes
from app.people.account.keys import PREFIX
from app.people.account.sessions import forget_sign_ins, recognize
from app.people.key_rotation import CONTACTS, DIGESTED, MAILS, PEOPLE, SESSIONS
from app.people.mailing import OLDEST_DUE, PeopleMails
from app.people.personal_data import erasing_others
from app.people.personal_data.retention import forget_people
from app.people.settings import PeopleSettings


def _mail_sources(services: Services, templates: MailTemplates) -> Sequence[MailSource]:
    limiter = services.of(AbuseProtection).limiter
    return [PeopleMails(services.database, services.settings_as(PeopleSettings), templates, limiter)]


ROOM = Room(
    name="people",
    routers=[routes.router, sign_in_routes.router, sign_in_routes.pages, me_routes.router],
    recognizers={PREFIX: recognize},
    sealed_columns=[PEOPLE, CONTACTS, SESSIONS, MAILS],
    digested_tables=DIGESTED,
    sweeps=lambda _services: [Sweep("forget_sign_ins", forget_sign_ins), Sweep("forget_people", forget_people)],
    pending_acts=lambda services: {erasing_others.ERASE: erasing_others.erasing(services)},
    mail_sources=_mail_sources,
    oldest_due={"people's mails": OLDEST_DUE},
)
