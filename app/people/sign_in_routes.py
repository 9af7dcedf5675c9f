"""Routes for signing in, and small HTML pages to sign in and to unsubscribe on. Opening a page changes nothing."""

from datetime import timedelta
from pathlib import Path

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from app.kit.abuse.protection import AbuseProtection
from app.kit.abuse.rate_limits import TooManyRequests
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Session
from app.kit.room_interface import services
from app.kit.settings import KIBIBYTE
from app.kit.text.locales import negotiate
from app.kit.web.bodies import longest_body
from app.kit.web.html_pages import Pages, read_form, require_same_site
from app.people.account import devices, sessions, sign_ins
from app.people.account.sign_ins import SignInRefused, SignInRequest
from app.people.consents import unsubscriptions
from app.people.consents.unsubscriptions import UnsubscribeLinkInvalid
from app.people.dependencies import BINDING_COOKIE, DEVICE_COOKIE, Ring
from app.people.fields import emails
from app.people.schemas import NewSessionView, SessionBody, SignInBody, SignInView
from app.people.settings import PeopleSettings

router = APIRouter(tags=["sign-in"])
pages = APIRouter(include_in_schema=False)

# For one person, on devices on which they have signed in before: beside what anybody can ask for.
KNOWN_DEVICE_LIMIT = "10 per hour"
_SECONDS = int(sign_ins.LIFETIME.total_seconds())
_LANGUAGES = ("ar", "de", "en", "es", "fr")
_pages = Pages(Path(__file__).parent / "pages")


@router.post("/v1/sign-ins", status_code=202)
async def ask_to_sign_in(
    request: Request, response: Response, session: Session, ring: Ring, body: SignInBody
) -> SignInView:
    """Have a link sent to one's address. Everybody gets one, whether anybody is known by that address or not."""
    device = body.device or request.cookies.get(DEVICE_COOKIE)
    wanted = sign_ins.request_by(ring, body.email, body.locale or _language(request), device)
    binding = await _ask(request, session, ring, wanted)
    _bind(request, response, binding)
    response.headers["Cache-Control"] = "no-store"
    return SignInView(binding=binding, expires_in=_SECONDS)


@router.post("/v1/sessions", status_code=201)
@longest_body(32 * KIBIBYTE)
async def sign_in(
    request: Request, response: Response, session: Session, ring: Ring, body: SessionBody
) -> NewSessionView:
    """Sign in with the token of the link, in the browser that asked for it. This answer alone shows the key."""
    binding = body.binding or request.cookies.get(BINDING_COOKIE)
    begun, device = await sign_ins.sign_in(session, ring, body.token, binding)
    response.headers["Cache-Control"] = "no-store"
    _remember_device(request, response, device)
    return NewSessionView(**begun._asdict(), device=device)


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
        binding = request.cookies.get(BINDING_COOKIE)
        begun, device = await sign_ins.sign_in(session, ring, form.get("token", ""), binding)
    except SignInRefused as refused:
        return _pages.answer(request, "sign_in_refused", status=refused.status)
    answer = _pages.answer(request, "signed_in", key=begun.key, days=sessions.LIFETIME.days)
    _remember_device(request, answer, device)
    return answer


async def _ask_by_page(request: Request, session: Session, ring: KeyRing, address: str) -> HTMLResponse:
    try:
        email = emails.validated(address)
    except ValueError:
        return _pages.answer(request, "ask_sign_in", status=422, wrong=True)
    wanted = sign_ins.request_by(ring, email, _language(request), request.cookies.get(DEVICE_COOKIE))
    try:
        binding = await _ask(request, session, ring, wanted)
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
    """The browser's binding; TooManyRequests for a client, unless a known device asks for its own person."""
    if not await _is_within_own_limit(request, wanted):
        await _count_client(request)
    return await sign_ins.request_link(session, ring, wanted)


async def _is_within_own_limit(request: Request, wanted: SignInRequest) -> bool:
    limiter = services(request).of(AbuseProtection).limiter
    return wanted.known_device and await limiter.hit(KNOWN_DEVICE_LIMIT, "sign-in-device", wanted.signer)


async def _count_client(request: Request) -> None:
    protection = services(request).of(AbuseProtection)
    limit = services(request).settings_as(PeopleSettings).sign_ins_per_hour
    if not await protection.hit(request.scope, limit, "sign-in-client"):
        raise TooManyRequests


def _bind(request: Request, response: Response, binding: str) -> None:
    _set_cookie(request, response, BINDING_COOKIE, binding, sign_ins.LIFETIME)


def _remember_device(request: Request, response: Response, device: str) -> None:
    response.delete_cookie(BINDING_COOKIE)
    _set_cookie(request, response, DEVICE_COOKIE, device, devices.LIFETIME)


def _set_cookie(request: Request, response: Response, name: str, value: str, lifetime: timedelta) -> None:
    secure = services(request).settings.public_url.startswith("https://")
    seconds = int(lifetime.total_seconds())
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="lax", secure=secure)


def _language(request: Request) -> str:
    return negotiate(",".join(request.headers.getlist("Accept-Language")), _LANGUAGES, "")
