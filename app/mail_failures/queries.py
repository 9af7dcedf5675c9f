"""Questions about mail failures."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.mail.failures import MailFailure


class FailureGroup(NamedTuple):
    """The failures of one source, kind, state and reason. Their first four are the key of a page."""

    source: str
    kind: str
    state: str
    reason: str
    mail_count: int
    first_failed_at: datetime
    last_failed_at: datetime


GROUP = (MailFailure.source, MailFailure.kind, MailFailure.state, MailFailure.reason)


async def grouped(
    session: AsyncSession, state: str | None, after: Sequence[str] | None, limit: int
) -> Sequence[FailureGroup]:
    """Failures counted by source, kind, state and reason, in this order, behind the group `after`.

    The table holds what has failed in the last 30 days and no mail that was sent: it is small, and read whole.
    """
    counts = (
        func.count().label("mail_count"),
        func.min(MailFailure.first_failed_at).label("first_failed_at"),
        func.max(MailFailure.last_failed_at).label("last_failed_at"),
    )
    query = select(*GROUP, *counts).group_by(*GROUP).order_by(*GROUP).limit(limit)
    if state is not None:
        query = query.where(MailFailure.state == state)
    if after is not None:
        query = query.where(tuple_(*GROUP) > tuple_(*after))
    return [FailureGroup(*row) for row in await session.execute(query)]
