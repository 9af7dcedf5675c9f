"""The one list of rooms, the lowest layer first. The doors and the guards of the house load what is listed here."""

from collections.abc import Sequence

from sqlalchemy import MetaData

from app.campaigns.room import ROOM as CAMPAIGNS
from app.kit.database.session import Base
from app.kit.room import ROOM as KIT
from app.kit.room_interface import Room
from app.mail_failures.room import ROOM as MAIL_FAILURES
from app.organizations.room import ROOM as ORGANIZATIONS
from app.partners.room import ROOM as PARTNERS
from app.people.room import ROOM as PEOPLE
from app.petitions.room import ROOM as PETITIONS
from app.signatures.room import ROOM as SIGNATURES

ROOMS: Sequence[Room] = (KIT, ORGANIZATIONS, MAIL_FAILURES, PEOPLE, CAMPAIGNS, PETITIONS, SIGNATURES, PARTNERS)

# Every table of the house, for Alembic and for tests: a room's models are known once its `room.py` is.
metadata: MetaData = Base.metadata
