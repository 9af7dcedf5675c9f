"""A plain model of attempts to sign: which one stands, what the ledger says, and what each organization may be shown.

Written from `docs/decisions/0022-an-attempt-is-not-a-person.md`, for one person under one petition. It knows nothing of
tables, locks or batches.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

MOST_WAITING = 8


@dataclass
class Attempt:
    """One attempt, as it was typed. `consents`: organizations, in the order in which they were named."""

    id: UUID
    name: str
    country: str
    signed_at: datetime
    consents: tuple[str, ...]
    state: str
    client: bytes | None = None
    partner: str | None = None
    imported: bool = False
    held: bool = False
    proven: bool = False
    accepted: tuple[str, ...] = ()
    invalidated_by: UUID | None = None

    @property
    def is_attested(self) -> bool:
        return self.partner is not None or self.imported

    @property
    def attester(self) -> str | None:
        return self.partner or ("movement" if self.imported else None)

    @property
    def shown_state(self) -> str:
        return "invalidated" if self.invalidated_by else self.state

    @property
    def stands(self) -> bool:
        return self.state in {"pending", "confirmed"}

    @property
    def counts(self) -> bool:
        return self.shown_state == "confirmed"

    def destroy(self) -> None:
        self.state, self.held, self.proven, self.accepted, self.client = "withdrawn", False, False, (), None


@dataclass
class Decision:
    """One entry of the ledger."""

    organization: str
    given: bool
    proven: bool
    decided_at: datetime
    attempt: UUID | None = None


@dataclass
class Signer:
    """One person: the attempt in their row, those that wait, and what was entered in the ledger."""

    by_mail: bool
    row: Attempt | None = None
    waiting: list[Attempt] = field(default_factory=list)
    taken_back: bool | None = None
    ledger: list[Decision] = field(default_factory=list)
    # Attempts whose consents were entered, and whether as proven.
    entered: set[tuple[UUID, bool]] = field(default_factory=set)

    @property
    def counts(self) -> bool:
        return self.row is not None and self.row.counts

    def everything(self) -> list[Attempt]:
        return [*([self.row] if self.row else []), *self.waiting]

    # What comes in.

    def sign(self, new: Attempt) -> None:
        new.state = "confirmed" if new.imported or not (self.by_mail or new.held) else "pending"
        if self.row is None:
            self.row = new
        elif self.row.shown_state == "withdrawn":
            self.sign_again(new)
        elif self.waits(new):
            self.wait(new, self.row)

    def sign_again(self, new: Attempt) -> None:
        if new.is_attested and self.taken_back is not False:
            return
        new.state = "pending" if self.taken_back else new.state
        self.row, self.taken_back = new, (True if self.taken_back else None)

    def waits(self, new: Attempt) -> bool:
        assert self.row is not None
        if not new.is_attested:
            return True
        is_brought = any((one.partner, one.imported) == (new.partner, new.imported) for one in self.waiting)
        is_its_own = new.is_attested and (self.row.partner, self.row.imported) == (new.partner, new.imported)
        return not (is_brought or is_its_own or self.taken_back or (self.row.proven and self.row.counts))

    def wait(self, new: Attempt, row: Attempt) -> None:
        if new.held or self.taken_back or row.invalidated_by:
            new.state = "pending"
        self.waiting.append(new)
        self.trim()
        if new.state == "confirmed" and row.shown_state == "pending":
            self.next_stands()

    def trim(self) -> None:
        of_client: Counter[bytes | None] = Counter()
        public = [one for one in self.waiting if not one.is_attested and not one.proven and one.state != "withdrawn"]
        ranked = []
        for one in sorted(public, key=lambda one: one.id, reverse=True):
            of_client[one.client] += 1
            ranked.append((of_client[one.client], -one.id.int, one))
        gone = [one for _, _, one in sorted(ranked, key=lambda rank: rank[:2])][MOST_WAITING:]
        self.waiting = [one for one in self.waiting if one not in gone]

    # Who stands.

    def next_stands(self) -> None:
        if self.taken_back or self.row is None:
            return
        state = self.row.shown_state
        able = [
            one
            for one in self.waiting
            if not one.held
            and (
                (one.counts and (state != "confirmed" or (one.proven and not self.row.proven)))
                or (one.shown_state == "pending" and state == "withdrawn")
            )
        ]
        if able:
            self.take_place(min(able, key=lambda one: (not one.counts, not one.proven, one.id)))

    def take_place(self, chosen: Attempt) -> None:
        assert self.row is not None
        self.waiting.remove(chosen)
        if self.row.shown_state != "withdrawn" or self.row.is_attested:
            self.waiting.append(self.row)
        self.row, self.taken_back = chosen, None

    # What the person, or whoever holds a receipt, does.

    def confirm(self, attempt: UUID, accepted: set[int]) -> None:
        one = next((one for one in self.everything() if one.id == attempt), None)
        if one is None or not one.stands or one.proven or one.held:
            return
        one.state, one.proven = "confirmed", True
        one.accepted = tuple(name for number, name in enumerate(one.consents) if number in accepted)
        if one is self.row:
            self.taken_back = None
        elif not one.invalidated_by:
            self.take_place(one)

    def withdraw(self, attempt: UUID, *, proven: bool) -> None:
        one = next((one for one in self.everything() if one.id == attempt), None)
        if one is None or not one.stands or (one.proven and not proven):
            return
        was_proven = one.proven
        self.destroy(one)
        if one is not self.row:
            if was_proven:
                self.withdraw_own()
            return
        # What she has proven before, that she withdraws, stays known.
        self.taken_back = bool(self.taken_back)
        if was_proven:
            self.destroy_waiting()
        else:
            self.next_stands()
        if proven and self.row is not None and self.row.state == "withdrawn":
            self.taken_back = True

    def withdraw_own(self) -> None:
        if self.row is not None:
            self.destroy(self.row)
            self.taken_back = True
            self.destroy_waiting()

    def destroy_waiting(self) -> None:
        for one in list(self.waiting):
            self.destroy(one)

    def destroy(self, one: Attempt) -> None:
        if not one.stands:
            return
        one.destroy()
        if one in self.waiting and not one.is_attested:
            self.waiting.remove(one)

    # What staff do.

    def invalidate(self, country: str, rule: UUID) -> None:
        for one in self.everything():
            if one.country == country and one.invalidated_by is None and one.stands:
                one.invalidated_by = rule
        self.next_stands()

    def undo(self, rule: UUID) -> None:
        for one in self.everything():
            if one.invalidated_by == rule:
                one.invalidated_by = None
        # What was withdrawn under the invalidation, and nobody vouched for, is not kept.
        self.next_stands()

    def release(self) -> None:
        for one in self.everything():
            if one.held and one.state == "pending":
                one.held = False
                one.state = one.state if self.by_mail or self.taken_back else "confirmed"
        self.next_stands()
