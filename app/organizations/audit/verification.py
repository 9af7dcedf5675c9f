"""Verifying the audit log: every entry is digested anew, and must be the one that follows the one before."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.organizations.audit.chain import COVERED, GENESIS, digest_of
from app.organizations.models import AuditEntry

BATCH = 5000
_COLUMNS = [getattr(AuditEntry, name) for name in (*COVERED, "previous_digest", "digest")]


class Verdict(NamedTuple):
    """What the walk found. `number` and `digest`: of the last entry that is as it was written.

    `reason`: why the entry after it is broken: `missing`, `unchained` (it does not follow the one before) or `altered`;
    `inserted`: before entry 1 stands one that nobody appended; or `head-missing`: the chain does not hold the entry
    that was expected. None when all is as it was written.
    """

    number: int
    digest: bytes
    reason: str | None = None


async def verify(session: AsyncSession, expected: Mapping[int, bytes] | None = None) -> Verdict:
    """Walk the whole chain, batch by batch, up to the first entry that is broken.

    `expected`: digests noted elsewhere, by number. Only they show that entries were cut off at the end, or that the
    whole chain was written anew.
    """
    verdict, waiting = Verdict(0, GENESIS), dict(expected or {})
    async for entry in _entries(session):
        number, digest = entry["number"], entry["digest"]
        reason = _fault(verdict, entry)
        if reason is None and waiting.pop(number, digest) != digest:
            reason = "head-missing"
        if reason is not None:
            return verdict._replace(reason=reason)
        verdict = Verdict(number, digest)
    return verdict._replace(reason="head-missing") if waiting else verdict


def _fault(before: Verdict, entry: Mapping[str, Any]) -> str | None:
    if entry["number"] <= before.number:
        return "inserted"
    if entry["number"] != before.number + 1:
        return "missing"
    if entry["previous_digest"] != before.digest:
        return "unchained"
    return None if digest_of(before.digest, entry) == entry["digest"] else "altered"


async def _entries(session: AsyncSession) -> AsyncIterator[Mapping[str, Any]]:
    # From the very first, whatever its number: what stands before entry 1 is shown to owners like all others.
    query = select(*_COLUMNS).order_by(AuditEntry.number).limit(BATCH)
    batch = query
    while True:
        entries: Sequence[Any] = (await session.execute(batch)).mappings().all()
        for entry in entries:
            yield entry
        if len(entries) < BATCH:
            return
        batch = query.where(AuditEntry.number > entries[-1]["number"])
