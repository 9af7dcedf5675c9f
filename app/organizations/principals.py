"""Principals: who calls - an organization, by one of its keys, in one role; or a person, by a session."""

from dataclasses import dataclass, field
from typing import Literal, get_args
from uuid import UUID

Role = Literal["owner", "campaigner", "analyst", "data_officer", "partner"]
ROLES = get_args(Role)
# The roles of the movement's staff: all but the partners'.
STAFF_ROLES = tuple(role for role in ROLES if role != "partner")
# The role of somebody who is signed in to their own page: it belongs to no organization.
PERSON = "person"
NO_ORGANIZATION = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a live key. A person has a `signer` and no organization; `key_id` is then their session's id."""

    key_id: UUID
    organization_id: UUID
    organization: str
    role: str
    signer: bytes | None = field(default=None, repr=False)
    # Of a key: from where it may be used, and how often; None: from everywhere, as often as the operator has set.
    networks: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    # Of the keys that it was made with, directly or not: how often a minute with all that were made with it.
    shared_limits: tuple[tuple[UUID, int], ...] = ()

    @property
    def is_staff(self) -> bool:
        """Staff of the movement, in whatever role; a partner is not."""
        return self.role in STAFF_ROLES


# Somebody with a shell on the server may do what an owner may.
OPERATOR = Principal(UUID(int=0), NO_ORGANIZATION, "movement", "owner")
# How the audit log names them.
OPERATOR_ROLE = "operator"
