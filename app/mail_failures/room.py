"""What this room brings to the doors: its routes. Its table, `mail_failures`, is in `kit/mail/failures.py`."""

from app.kit.room_interface import Room
from app.mail_failures.routes import router

ROOM = Room(name="mail_failures", routers=[router])
