"""Who is asking: an organization, through one of its keys, in one role."""

from dataclasses import dataclass
from uuid import UUID

STAFF_ROLES = ("owner", "campaigner", "analyst", "data_officer")
ROLES = (*STAFF_ROLES, "partner")


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a live key."""

    key_id: UUID
    organization_id: UUID
    organization: str
    role: str

    @property
    def is_staff(self) -> bool:
        """Staff of the movement, in whatever role; a partner is not."""
        return self.role in STAFF_ROLES


# Whoever has a shell on the server: may do what an owner may.
OPERATOR = Principal(UUID(int=0), UUID(int=0), "movement", "owner")
