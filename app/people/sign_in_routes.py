"""Routes for signing in, and small HTML pages to sign in and to unsubscribe on. Opening a page changes nothing."""

from pathlib import Path

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from app.kit.abuse.rate_limits import TooManyRequests
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Session
from app.kit.room_interface import services
from app.kit.text.locales import negotiate
from app.kit.web.html_pages import Pages, read_form, require_same_site
from app.people.account import sessions, sign_ins
from app.people.account.sign_ins import SignInRefused, SignInRequest
from app.people.consents import unsubscriptions
from app.people.consents.unsubscriptions import UnsubscribeLinkInvalid
from app.people.dependencies import Ring, client_digest, limiter_of
from app.people.fields import emails
from app.people.schemas import NewSessionView, SessionBody, SignInBody, SignInView
from app.people.settings import PeopleSettings

router = APIRouter(tags=["sign-in"])
pages = APIRouter(include_in_schema=False)

COOKIE = "mtd_binding"
# One client, for one person: so nobody can use up the limit of another person by asking for their links all day.
PAIR_LIMIT = "5 per hour"
# All clients, for one person, so that nobody's mailbox is filled.
PERSON_LIMIT = "30 per hour"
_SECONDS = int(sign_ins.LIFETIME.total_seconds())
_LANGUAGES = ("ar", "de", "en", "es", "fr")
_pages = Pages(Path(__file__).parent / "pages")


@router.post("/v1/sign-ins", status_code=202)
async def ask_to_sign_in(
    request: Request, response: Response, session: Session, ring: Ring, body: SignInBody
) -> SignInView:
    """Have a link sent to one's address. The answer is the same whether anybody is known by it or not."""
    wanted = sign_ins.request_by(ring, body.email, body.locale or _language(request))
    binding = await _ask(request, session, ring, wanted)
    _bind(request, response, binding)
    response.headers["Cache-Control"] = "no-store"
    return SignInView(binding=binding, expires_in=_SECONDS)


@router.post("/v1/sessions", status_code=201)
async def sign_in(
    request: Request, response: Response, session: Session, ring: Ring, body: SessionBody
) -> NewSessionView:
    """Sign in with the token of the link, in the browser that asked for it. This answer alone shows the key."""
    begun = await sign_ins.sign_in(session, ring, body.token, body.binding or request.cookies.get(COOKIE))
    response.headers["Cache-Control"] = "no-store"
    response.delete_cookie(COOKIE)
    return NewSessionView.model_validate(begun, from_attributes=True)


@pages.get("/sign-in")
async def sign_in_page(request: Request, token: str = "") -> HTMLResponse:
    """A button that signs in with this token; without one, a field to ask for a link."""
    if token:
        return _pages.answer(request, "sign_in", token=token)
    return _pages.answer(request, "ask_sign_in", wrong=False)


@pages.post("/sign-in", dependencies=[Depends(require_same_site)])
async def sign_in_by_page(request: Request, session: Session, ring: Ring) -> HTMLResponse:
    """Sign in with the button, or ask for a link with the field."""
    form = await read_form(request)
    if "email" in form:
        return await _ask_by_page(request, session, ring, form["email"])
    try:
        begun = await sign_ins.sign_in(session, ring, form.get("token", ""), request.cookies.get(COOKIE))
    except SignInRefused as refused:
        return _pages.answer(request, "sign_in_refused", status=refused.status)
    answer = _pages.answer(request, "signed_in", key=begun.key, days=sessions.LIFETIME.days)
    answer.delete_cookie(COOKIE)
    return answer


async def _ask_by_page(request: Request, session: Session, ring: KeyRing, address: str) -> HTMLResponse:
    try:
        email = emails.validated(address)
    except ValueError:
        return _pages.answer(request, "ask_sign_in", status=422, wrong=True)
    try:
        binding = await _ask(request, session, ring, sign_ins.request_by(ring, email, _language(request)))
    except TooManyRequests as refused:
        return _pages.answer(request, "too_many", status=refused.status)
    answer = _pages.answer(request, "mail_sent", minutes=_SECONDS // 60)
    _bind(request, answer, binding)
    return answer


@pages.get("/unsubscribe")
async def unsubscribe_page(request: Request, session: Session, ring: Ring, token: str = "") -> HTMLResponse:
    """A button that unsubscribes."""
    try:
        organization = await unsubscriptions.organization_of(session, ring, token)
    except UnsubscribeLinkInvalid as invalid:
        return _pages.answer(request, "link_invalid", status=invalid.status)
    return _pages.answer(request, "unsubscribe", token=token, organization=organization)


@pages.post("/unsubscribe")
async def unsubscribe(request: Request, session: Session, ring: Ring, token: str = "") -> HTMLResponse:
    """Unsubscribe, by our button or a mail program's own (RFC 8058). The answer is the same whatever stood before."""
    try:
        await unsubscriptions.unsubscribe(session, ring, token)
    except UnsubscribeLinkInvalid as invalid:
        return _pages.answer(request, "link_invalid", status=invalid.status)
    return _pages.answer(request, "unsubscribed")


async def _ask(request: Request, session: Session, ring: KeyRing, wanted: SignInRequest) -> str:
    """The browser's binding. TooManyRequests for a client; beyond a person's limit no mail is sent, without a word."""
    client, limiter = await client_digest(request), limiter_of(request)
    settings = services(request).settings_as(PeopleSettings)
    if client and not await limiter.hit(f"{settings.sign_ins_per_hour} per hour", "sign-in-client", client):
        raise TooManyRequests
    # In this order: a request refused to one client must not use up the limit that others share.
    mailed = (client is None or await limiter.hit(PAIR_LIMIT, "sign-in-pair", client, wanted.signer)) and (
        await limiter.hit(PERSON_LIMIT, "sign-in", wanted.signer)
    )
    return await sign_ins.request_link(session, ring, wanted, mailed=mailed)


def _bind(request: Request, response: Response, binding: str) -> None:
    secure = services(request).settings.public_url.startswith("https://")
    response.set_cookie(COOKIE, binding, max_age=_SECONDS, httponly=True, samesite="lax", secure=secure)


def _language(request: Request) -> str:
    return negotiate(",".join(request.headers.getlist("Accept-Language")), _LANGUAGES, "")
