"""The confirmation page, where no front end is set. Opening it changes nothing, because mail scanners open links."""

from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from app.kit.web.html_pages import Pages, read_form, require_same_site
from app.signatures import service
from app.signatures.routes import Services
from app.signatures.service import UnknownLink

router = APIRouter(include_in_schema=False)
_pages = Pages(Path(__file__).parent / "pages")


@router.get("/confirm")
async def confirm_page(request: Request, token: str = "") -> HTMLResponse:
    """A button that confirms with this token; the token is not read before the button is pressed."""
    return _pages.answer(request, "confirm", token=token)


@router.post("/confirm", dependencies=[Depends(require_same_site)])
async def confirm_by_page(request: Request, services: Services) -> HTMLResponse:
    """Confirm; the same link is always answered alike."""
    form = await read_form(request)
    try:
        await service.confirm(services, form.get("token", ""))
    except UnknownLink as unknown:
        return _pages.answer(request, "link_unknown", status=unknown.status)
    return _pages.answer(request, "confirmed")
