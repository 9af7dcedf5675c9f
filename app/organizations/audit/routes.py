"""The audit log over HTTP, for owners."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import Select, select

from app.kit.database.session import Session
from app.organizations.audit.schemas import AuditEntryView, AuditPage, AuditPaging, cursor_of
from app.organizations.auth import Owner
from app.organizations.models import AuditEntry

router = APIRouter(tags=["organizations"])


@router.get("/v1/audit-log")
async def list_audit_entries(
    _owner: Owner, session: Session, response: Response, paging: Annotated[AuditPaging, Query()]
) -> AuditPage:
    """What staff and partners did, and when they were shown names; newest first. Owners."""
    response.headers["Cache-Control"] = "no-store"
    query = _chosen(paging).order_by(AuditEntry.number.desc()).limit(paging.limit + 1)
    rows = (await session.scalars(query)).all()
    shown = rows[: paging.limit]
    return AuditPage(
        items=[AuditEntryView.model_validate(row) for row in shown],
        next_cursor=cursor_of(shown[-1].number) if len(rows) > paging.limit else None,
    )


def _chosen(paging: AuditPaging) -> Select[AuditEntry]:
    query, before = select(AuditEntry), paging.before()
    if before is not None:
        query = query.where(AuditEntry.number < before)
    for column, value in ((AuditEntry.key_id, paging.key), (AuditEntry.verb, paging.verb)):
        if value is not None:
            query = query.where(column == value)
    if paging.object is not None:
        kind, _, id_ = paging.object.partition(":")
        query = query.where(AuditEntry.object_kind == kind, *([AuditEntry.object_id == id_] if id_ else ()))
    if paging.since is not None:
        query = query.where(AuditEntry.at >= paging.since)
    return query.where(AuditEntry.at < paging.until) if paging.until is not None else query
