"""Who is asking: an organization, through one of its keys, in one role; or a person, through a session."""

from dataclasses import dataclass, field
from uuid import UUID

STAFF_ROLES = ("owner", "campaigner", "analyst", "data_officer")
ROLES = (*STAFF_ROLES, "partner")
# No organization's: somebody who is signed in to their own page.
PERSON = "person"
NO_ORGANIZATION = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a live key. A person has a `signer` and no organization; `key_id` is then their session's."""

    key_id: UUID
    organization_id: UUID
    organization: str
    role: str
    signer: bytes | None = field(default=None, repr=False)

    @property
    def is_staff(self) -> bool:
        """Staff of the movement, in whatever role; a partner is not."""
        return self.role in STAFF_ROLES


# Whoever has a shell on the server: may do what an owner may.
OPERATOR = Principal(UUID(int=0), NO_ORGANIZATION, "movement", "owner")
