"""Mail failures over HTTP, for owners and data officers."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from app.kit.database.paging import Page, UnknownCursor
from app.kit.database.session import Session
from app.kit.mail.outcome import advice_on
from app.kit.text import base64url
from app.mail_failures import queries
from app.mail_failures.queries import FailureGroup
from app.mail_failures.schemas import MailFailurePaging, MailFailureView
from app.organizations.auth import staff
from app.organizations.principals import Principal

router = APIRouter(tags=["operations"])

_DataOfficer = Annotated[Principal, Depends(staff("data_officer"))]


@router.get("/v1/mail-failures", response_model=Page[MailFailureView])
async def list_mail_failures(
    _officer: _DataOfficer, session: Session, paging: Annotated[MailFailurePaging, Query()]
) -> dict[str, Any]:
    """Why mails were not sent in the last 30 days: counts by source, kind, state and reason, and never an address.

    Owners and data officers.
    """
    rows = await queries.grouped(session, paging.state, _after(paging.cursor), paging.limit + 1)
    shown = rows[: paging.limit]
    more = len(rows) > paging.limit
    return {"items": [_view(row) for row in shown], "next_cursor": _cursor_of(shown[-1]) if more else None}


def _view(group: FailureGroup) -> MailFailureView:
    return MailFailureView(**group._asdict(), advice=advice_on(group.reason) or None)


def _cursor_of(group: FailureGroup) -> str:
    key = (group.source, group.kind, group.state, group.reason)
    return base64url.encode("\n".join(key).encode())


def _after(cursor: str | None) -> Sequence[str] | None:
    """The group that the page starts behind; UnknownCursor when the cursor is not ours."""
    if cursor is None:
        return None
    try:
        after = base64url.decode(cursor).decode().split("\n")
    except ValueError:
        raise UnknownCursor from None
    # PostgreSQL takes no NUL in a text.
    if len(after) != len(queries.GROUP) or "\x00" in "".join(after):
        raise UnknownCursor
    return after
