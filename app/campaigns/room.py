"""What this room brings to the doors."""

from app.campaigns.routes import router
from app.kit.room_interface import Room

ROOM = Room(name="campaigns", routers=[router])
