"""What this room brings to the doors."""

from app.kit.room_interface import Room, Sweep
from app.petitions import waiting
from app.petitions.queries import OLDEST_TRANSITION
from app.petitions.routes import router
from app.petitions.service import apply_scheduled_transitions

# The lock's name is that of earlier versions, which may run beside this one.
_TRANSITIONS = Sweep("apply_scheduled_transitions", apply_scheduled_transitions, lock_name="turn_pages")

ROOM = Room(
    name="petitions",
    routers=[router],
    sweeps=lambda _services: [_TRANSITIONS],
    pending_acts=lambda _services: {
        waiting.ARCHIVE: waiting.archive,
        waiting.END_RETENTION: waiting.end_retention,
    },
    oldest_due={"apply_scheduled_transitions": OLDEST_TRANSITION},
)
