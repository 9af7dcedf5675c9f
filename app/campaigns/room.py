"""What this room brings to the doors."""

from app.campaigns.routes import ARCHIVE, router
from app.campaigns.service import archive_waited
from app.kit.room_interface import Room

ROOM = Room(name="campaigns", routers=[router], pending_acts=lambda _services: {ARCHIVE: archive_waited})
