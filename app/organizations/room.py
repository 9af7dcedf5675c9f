"""What this room brings to the doors."""

from app.kit.room_interface import Room
from app.organizations.routes import router

ROOM = Room(name="organizations", routers=[router])
