"""The pages behind the links in mails, where no front end is set: what a link would do is shown, a button does it.

Opening a page changes nothing, because mail scanners open links.
"""

from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from app.kit.database.session import Session
from app.kit.problems import Problem, Unavailable
from app.kit.web.html_pages import Pages, read_fields, require_same_site
from app.signatures import service
from app.signatures.confirmation.preview import preview
from app.signatures.routes import Services
from app.signatures.schemas import MOST_CONSENTS
from app.signatures.service import SignatureGone, UnknownLink

router = APIRouter(include_in_schema=False)
_pages = Pages(Path(__file__).parent / "html")


@router.get("/confirm")
async def confirm_page(request: Request, services: Services, session: Session, token: str = "") -> HTMLResponse:
    """What the link would confirm, a box for each consent, and a button."""
    try:
        shown = await preview(session, services.ring, service.follow(services, token))
    except (UnknownLink, SignatureGone, Unavailable) as problem:
        return _refused(request, problem)
    if shown.status == "confirmed":
        # Whether it still counts is not told: whoever comes later to the mailbox learns no more from it.
        return _pages.answer(request, "nothing_left")
    return _pages.answer(request, "confirm", token=token, shown=shown, petition_title=shown.title)


@router.post("/confirm", dependencies=[Depends(require_same_site)])
async def confirm_by_page(request: Request, services: Services) -> HTMLResponse:
    """Confirm, with the consents that were ticked; the same link is answered alike again."""
    form = await read_fields(request)
    ticked = {number for number in range(MOST_CONSENTS) if str(number) in form.get("consent", [])}
    try:
        await service.confirm(services, _first(form, "token"), ticked)
    except (UnknownLink, SignatureGone, Unavailable) as problem:
        return _refused(request, problem)
    return _pages.answer(request, "confirmed")


@router.get("/withdraw")
async def withdraw_page(request: Request, token: str = "") -> HTMLResponse:
    """A button that withdraws; the token is not read before it is pressed."""
    return _pages.answer(request, "withdraw", token=token)


@router.post("/withdraw", dependencies=[Depends(require_same_site)])
async def withdraw_by_page(request: Request, services: Services) -> HTMLResponse:
    """Withdraw; the same link is always answered alike."""
    try:
        await service.withdraw_by_link(services, _first(await read_fields(request), "token"))
    except (UnknownLink, Unavailable) as problem:
        return _refused(request, problem, unknown="withdrawal_unknown")
    return _pages.answer(request, "withdrawn")


def _refused(request: Request, problem: Problem, unknown: str = "link_unknown") -> HTMLResponse:
    """The page that says why, with the problem's headers; `unknown`: the one for a link that is none of ours."""
    pages = {SignatureGone: "signature_gone", UnknownLink: unknown}
    answer = _pages.answer(request, pages.get(type(problem), "unavailable"), status=problem.status)
    answer.headers.update(problem.headers)
    return answer


def _first(form: dict[str, list[str]], name: str) -> str:
    return next(iter(form.get(name, [])), "")
