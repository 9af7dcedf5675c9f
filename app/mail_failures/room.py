"""What this room brings to the doors."""

from app.kit.room_interface import Room
from app.mail_failures.routes import router

ROOM = Room(name="mail_failures", routers=[router])
