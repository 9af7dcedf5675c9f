"""Moderation over HTTP: invalidations, signatures on hold, trends, retention. For staff only."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.kit.abuse.protection import AbuseProtection
from app.kit.abuse.rate_limits import TooManyRequests
from app.kit.crypto.sealing import KeyRing
from app.kit.database.paging import Page, Paging, page_of
from app.kit.database.session import Session
from app.kit.room_interface import services
from app.kit.settings import KIBIBYTE
from app.kit.web.bodies import longest_body
from app.organizations.audit.declaration import audited
from app.organizations.auth import AnyStaff, Campaigner, staff
from app.organizations.principals import Principal
from app.petitions import service as petitions
from app.petitions.models import Petition
from app.signatures.models import Invalidation
from app.signatures.moderation import invalidations, on_hold, retention
from app.signatures.moderation.invalidations import OpenedInvalidation
from app.signatures.moderation.on_hold import SharedAddresses
from app.signatures.moderation.schemas import (
    HeldView,
    InvalidationBody,
    InvalidationItem,
    InvalidationView,
    RetentionView,
    TrendsView,
)
from app.signatures.moderation.trends import Trends
from app.signatures.reading.disclosure import SMALLEST_PUBLIC_KEY


def _no_store(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


# Of one petition, by all staff together.
_DRY_RUNS = "60 per hour"

router = APIRouter(tags=["abuse"], dependencies=[Depends(_no_store)])

# Campaigners set the day; data officers answer for personal data.
Watcher = Annotated[Principal, Depends(staff("campaigner", "data_officer"))]


def _ring(request: Request) -> KeyRing:
    return services(request).key_ring


def _trends(request: Request) -> Trends:
    return services(request).of(Trends)


def _addresses(request: Request) -> SharedAddresses:
    return services(request).of(SharedAddresses)


Ring = Annotated[KeyRing, Depends(_ring)]
Watched = Annotated[Trends, Depends(_trends)]
Addresses = Annotated[SharedAddresses, Depends(_addresses)]


def _item(found: OpenedInvalidation) -> InvalidationItem:
    row = found.invalidation
    given = {name: getattr(row, name) for name in InvalidationItem.model_fields if name != "rule"}
    if row.state == "draft":
        given["signed_before"] = None
    if row.state != "draft" and row.invalidated_count < SMALLEST_PUBLIC_KEY:
        given["invalidated_count"] = None
    if row.state in {"undoing", "undone"} and row.restored_count < SMALLEST_PUBLIC_KEY:
        given["restored_count"] = None
    return InvalidationItem(rule=found.rule and found.rule.body, **given)


async def _count_dry_run(request: Request, petition: Petition) -> None:
    """TooManyRequests: who could ask without end would find where a count changes."""
    limiter = services(request).of(AbuseProtection).limiter
    if not await limiter.hit(_DRY_RUNS, "dry-run", str(petition.id)):
        raise TooManyRequests(retry_after=3600)


def _view(found: OpenedInvalidation) -> InvalidationView:
    return InvalidationView(**dict(_item(found)), dry_run=found.dry_run)


def _matching(view: InvalidationView) -> int:
    return (view.dry_run.signature_count if view.dry_run is not None else None) or 1


@router.post("/v1/petitions/{petition}/invalidations", status_code=201)
@audited("invalidation.draft", "petition")
@longest_body(512 * KIBIBYTE)
async def draft_invalidation(
    request: Request,
    campaigner: Campaigner,
    session: Session,
    response: Response,
    ring: Ring,
    petition: str,
    body: InvalidationBody,
) -> InvalidationView:
    """Say by a rule which signatures are not genuine, and see about how many. Nothing is changed yet."""
    found = await petitions.find(session, petition, campaigner)
    await _count_dry_run(request, found)
    drafted = await invalidations.draft(session, ring, found.id, body)
    response.headers["Location"] = f"/v1/petitions/{found.slug}/invalidations/{drafted.invalidation.id}"
    return _view(drafted)


@router.get("/v1/petitions/{petition}/invalidations")
async def list_invalidations(
    campaigner: Campaigner, session: Session, ring: Ring, petition: str, paging: Annotated[Paging, Query()]
) -> Page[InvalidationItem]:
    """The invalidations of a petition, newest first, drafts included."""
    found = await petitions.find(session, petition, campaigner)
    query = invalidations.of(found.id)
    page = await page_of(session, query, Invalidation.id, paging, lambda row: _item(invalidations.opened(ring, row)))
    return Page(**page)


@router.get("/v1/petitions/{petition}/invalidations/{invalidation}")
async def show_invalidation(
    request: Request, campaigner: Campaigner, session: Session, ring: Ring, petition: str, invalidation: str
) -> InvalidationView:
    """One invalidation: how far it has come, or, while it is a draft, about how much it would invalidate now."""
    found = await petitions.find(session, petition, campaigner)
    looked_at = await invalidations.look(session, ring, found.id, invalidation)
    if looked_at.invalidation.state == "draft" and looked_at.rule is not None:
        await _count_dry_run(request, found)
        looked_at = await invalidations.with_dry_run(session, ring, looked_at)
    return _view(looked_at)


@router.post("/v1/petitions/{petition}/invalidations/{invalidation}/apply")
@audited("invalidation.apply", category="destruction", count=_matching)
async def apply_invalidation(
    campaigner: Campaigner, session: Session, ring: Ring, petition: str, invalidation: str
) -> InvalidationView:
    """Invalidate what the rule matches and was signed until now. It goes on in the background."""
    found = await petitions.find(session, petition, campaigner)
    return _view(await invalidations.apply(session, ring, found.id, invalidation))


@router.post("/v1/petitions/{petition}/invalidations/{invalidation}/undo")
@audited("invalidation.undo")
async def undo_invalidation(
    campaigner: Campaigner, session: Session, ring: Ring, petition: str, invalidation: str
) -> InvalidationView:
    """Restore everything it has invalidated, however far it came. It goes on in the background."""
    found = await petitions.find(session, petition, campaigner)
    return _view(await invalidations.undo(session, ring, found.id, invalidation))


@router.get("/v1/petitions/{petition}/held")
async def show_held(caller: AnyStaff, session: Session, addresses: Addresses, petition: str) -> HeldView:
    """How many signatures wait, for they were over a limit, and which client addresses are over it now."""
    found = await petitions.find(session, petition, caller)
    return await on_hold.on_hold(session, found, addresses)


@router.post("/v1/petitions/{petition}/held/release")
@audited("petition.release_held")
async def release_held(_campaigner: Campaigner, session: Session, addresses: Addresses, petition: str) -> HeldView:
    """Let all that are held now go on as if nothing had happened. It goes on in the background."""
    found = await on_hold.release(session, petition)
    return await on_hold.on_hold(session, found, addresses)


@router.get("/v1/petitions/{petition}/trends")
async def show_trends(
    request: Request,
    caller: AnyStaff,
    trends: Watched,
    petition: str,
    minutes: Annotated[int, Query(ge=1, le=60)] = 15,
) -> TrendsView:
    """Where the signatures of the last full minutes came from; at most a minute old."""
    database = services(request).database
    # A short transaction of its own: a request that waits for the shared read must not hold a connection.
    async with database.transaction() as session:
        found = await petitions.find(session, petition, caller)
    view = await trends.of(found.id, minutes)
    assert view is not None
    return view


@router.get("/v1/petitions/{petition}/retention")
async def show_retention(caller: Watcher, session: Session, petition: str) -> RetentionView:
    """Whose personal data goes when the petition's day has come, and whose stays."""
    return await retention.dry_run(session, await petitions.find(session, petition, caller))
