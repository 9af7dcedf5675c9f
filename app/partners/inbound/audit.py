"""What partners post, in the audit log: how many posts each has made, once an hour.

An entry for each post would make partners wait for each other: entries are one chain. Each post has its own row in
`received_webhooks` for 30 days.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.organizations.audit.chain import Act, append
from app.organizations.principals import OPERATOR, Principal

VERB = "signatures.bring"
# What came in just before the hour may be committed a little after it.
_LATE = timedelta(minutes=2)
# The entries of one hour are one transaction: the newest says up to which hour all are counted.
_COUNT = text("""
    SELECT organization_id, count(*) AS post_count FROM received_webhooks
    WHERE received_at < date_trunc('hour', CAST(:moment AS timestamptz)) AND received_at >= coalesce(
        (SELECT date_trunc('hour', max(at) - CAST(:late AS interval)) FROM audit_entries WHERE verb = :verb),
        '-infinity'
    )
    GROUP BY organization_id ORDER BY organization_id
""")


class ReceivedPosts:
    """The sweep, one per worker."""

    def __init__(self) -> None:
        self._hour: datetime | None = None

    async def __call__(self, session: AsyncSession) -> Sequence[int]:
        """Enter what came in since the last entries, up to the last full hour; the numbers of the entries."""
        moment = now() - _LATE
        hour = moment.replace(minute=0, second=0, microsecond=0)
        if hour == self._hour:
            return []
        rows = (await session.execute(_COUNT, {"moment": moment, "late": _LATE, "verb": VERB})).all()
        entered = []
        for organization_id, post_count in rows:
            partner = Principal(OPERATOR.key_id, organization_id, "", "partner")
            act = Act(VERB, "organization", str(organization_id), row_count=post_count)
            entered.append(await append(session, partner, act))
        # Only where there was nothing to enter: what was entered may still be rolled back.
        self._hour = None if entered else hour
        return entered
