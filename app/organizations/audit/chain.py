"""The hash chain of the audit log: how an entry is appended, and what its digest is made of.

Entries are numbered without gaps, so writers follow one another: under an advisory lock of their transaction, taken as
its very last lock and held for one look-up, one insert and the commit. Whoever holds it waits for nobody else, so it
is part of no deadlock.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.organizations.models import AuditEntry, Category
from app.organizations.principals import NO_ORGANIZATION, OPERATOR, OPERATOR_ROLE, Principal

# "audi" in ASCII.
LOCK = 0x61756469
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
_LAST = text("SELECT number, digest FROM audit_entries ORDER BY number DESC LIMIT 1")
GENESIS = bytes(32)
# What an entry's digest is over, beside the digest before it: a column that is added later must not be among them.
COVERED = (
    "number",
    "at",
    "key_id",
    "organization_id",
    "role",
    "verb",
    "category",
    "object_kind",
    "object_id",
    "row_count",
    "fields",
    "reason",
    "pending_act_id",
)
_LONGEST_REASON = 200
# An address or a number that somebody writes into a reason must not stay in a log that nobody can change: also one that
# is written `name (at) host`, or in groups of digits.
_PERSONAL = re.compile(
    r"[^\s@]*\s*(?:@|[(\[{<]\s*at\s*[)\]}>])\s*[^\s@]*"
    # A date stays.
    r"|(?<!\d)(?!\d{4}-\d\d-\d\d(?!\d))\+?\d(?:[\s./()-]{0,3}\d){6,}",
    re.IGNORECASE,
)


class Act(NamedTuple):
    """What is entered. `row_count`: how many rows were shown or changed; `fields`: the names of what was set."""

    verb: str
    object_kind: str
    object_id: str | None = None
    category: Category = "act"
    row_count: int = 1
    fields: Sequence[str] = ()
    reason: str | None = None
    pending_act_id: UUID | None = None


async def append(session: AsyncSession, by: Principal, act: Act) -> int:
    """Enter an act; its number. The last that a transaction does: it keeps all other writers waiting until it ends."""
    # What is still to be written locks rows: before this lock, never behind it.
    await session.flush()
    await session.execute(_LOCK, {"lock": LOCK})
    # A statement of its own, after the lock: it sees what its former holder has committed.
    last = (await session.execute(_LAST)).one_or_none()
    number, previous = (last.number + 1, last.digest) if last is not None else (1, GENESIS)
    values = {
        **act._asdict(),
        "number": number,
        "at": now(),
        "key_id": None if by.key_id == OPERATOR.key_id else by.key_id,
        "organization_id": None if by.organization_id == NO_ORGANIZATION else by.organization_id,
        "role": OPERATOR_ROLE if by == OPERATOR else by.role,
        "fields": sorted(act.fields),
        "reason": _reason(act.reason),
    }
    digest = digest_of(previous, values)
    await session.execute(insert(AuditEntry).values(**values, previous_digest=previous, digest=digest))
    return number


def digest_of(previous: bytes, entry: Mapping[str, Any]) -> bytes:
    """SHA-256 over the former digest and the entry in canonical form: JSON, sorted by name, without white space."""
    covered = {name: _canonical(entry[name]) for name in COVERED}
    form = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(previous + form.encode()).digest()


def _canonical(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value) if isinstance(value, UUID) else value


def _reason(reason: str | None) -> str | None:
    return _PERSONAL.sub("…", reason)[:_LONGEST_REASON] if reason else None
