"""What the engine takes in and gives back: attempts to sign, ready for the database, and what became of them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from app.signatures.dimensions import TallyKeys


class Origin(Enum):
    """By which way an attempt came in, and whether somebody vouches for it."""

    SIGNER = "signer"
    PARTNER = "partner"
    IMPORT = "import"

    @property
    def attested(self) -> bool:
        """A partner vouches for what it brings, staff for what they import; for what comes in publicly, nobody does."""
        return self is not Origin.SIGNER


class AbuseSignals(NamedTuple):
    """Where a signature came from and what it waits for. A flag is True or None: a NULL takes no space in the row.

    `on_hold` is more than that: over a limit, an attempt waits for staff (True), or for its signer to confirm it by
    mail, also where others need not (False).
    """

    address_digest: bytes | None = None
    domain_digest: bytes | None = None
    disposable: bool | None = None
    partner_id: UUID | None = None
    on_hold: bool | None = None
    consents_due: bool | None = None


class Signing(NamedTuple):
    """One attempt to sign, ready for the database: digested, sealed, validated."""

    petition_id: UUID
    signer: bytes
    id: UUID
    sealed: bytes
    tally_keys: TallyKeys
    signals: AbuseSignals = AbuseSignals()


class Outcome(Enum):
    """What became of an attempt. The public is told `COUNTED`, `PENDING` and `DUPLICATE` in the same words.

    `INVALID`: the database refuses a value of it. `NOTHING`: no row was there to change.
    """

    COUNTED = "counted"
    PENDING = "pending"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    INVALID = "invalid"
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"
    ERASED = "erased"
    NOTHING = "nothing"


class Committed(NamedTuple):
    """A committed batch: an outcome per attempt, in order, and the total in this lane of each petition it touched."""

    outcomes: list[Outcome]
    totals: dict[UUID, int]


def by_petition(items: Iterable[Signing]) -> dict[UUID, list[Signing]]:
    """The signings by their petition, each part in the order given."""
    grouped: dict[UUID, list[Signing]] = defaultdict(list)
    for item in items:
        grouped[item.petition_id].append(item)
    return grouped


def columns_of(signings: Sequence[Signing], *, attested: bool) -> list[Sequence[Any] | None]:
    """Signings of one petition as columns. Consents are due by themselves only if somebody vouches for them."""
    _, signers, ids, sealed, tally_keys, signals = zip(*signings, strict=True)
    columns = [_column(values) for values in (*zip(*tally_keys, strict=True), *zip(*signals, strict=True))]
    if not attested:
        columns[-1] = None
    return [signers, ids, sealed, *columns]


def _column(values: Sequence[Any]) -> Sequence[Any] | None:
    """None instead of a column of nothing but None: the driver would look at each of its elements."""
    return None if values.count(None) == len(values) else values
