"""Verifying: who has signed a webhook, before anybody looks at what it says.

A partner that is not known is told the same as a wrong signature, after the same work. Of a body that is not verified
nothing is parsed.
"""

import os
from typing import NamedTuple

from fastapi import Request

from app.kit import webhooks
from app.kit.clock import now
from app.kit.large_bodies import Share, is_utf8, off_loop
from app.kit.problems import Problem, Unauthorized
from app.kit.webhooks import Claim, MalformedError
from app.organizations import queries as organizations
from app.organizations.models import Organization
from app.partners.inbound.desk import Desk
from app.partners.secrets import LiveSecret, key_of, live_secrets, note_use

JSON, LINES = "application/json", "application/x-ndjson"
# In the field lines go by several names; none is registered.
_OF_LINES = {LINES, "application/ndjson", "application/jsonl"}
_GZIP = {"gzip", "x-gzip"}
_UTF8 = {"utf-8", "utf8"}


class NotVerified(Unauthorized):
    """The webhook is not signed, or by no secret of this partner that is live."""

    slug = "webhook-not-verified"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.headers = {"WWW-Authenticate": "Webhook-Signature"}


class NotABatch(Problem):
    """The body must be application/json, or application/x-ndjson, in UTF-8."""

    status = 415
    slug = "unsupported-batch-type"


class UnknownEncoding(Problem):
    """The body must be sent as it is, or as gzip."""

    status = 415
    slug = "unsupported-encoding"

    def __init__(self) -> None:
        super().__init__(headers={"Accept-Encoding": "gzip"})


class NotUtf8(Problem):
    """The body must be UTF-8."""

    slug = "wrong-charset"


class Verified(NamedTuple):
    """A webhook that is signed, and its body, unpacked. `lines`: one JSON text in each."""

    organization: Organization
    id: str
    body: bytes
    lines: bool


class _Signers(NamedTuple):
    """Who may have signed. Nobody's key stands in for those of a partner that is not known."""

    organization: Organization | None
    secrets: list[LiveSecret]

    @property
    def keys(self) -> list[bytes]:
        return [key_of(one.secret) for one in self.secrets] or [os.urandom(32)]


async def verify(desk: Desk, request: Request, partner: str, share: Share) -> Verified:
    """The webhook, once it is shown that the partner has signed it, just now.

    NotVerified, NotABatch, UnknownEncoding, NotUtf8, TooLarge, TooSlow, BrokenGzip, QueueFull.
    """
    claim = _claim_of(request)
    lines, packed = _is_lines(request), _is_packed(request)
    signers = await _signers(desk, partner)
    body = await desk.bodies.read(request, share)
    number = await _signer_of(signers, claim, body)
    if packed:
        body = await desk.bodies.unpack(body, share)
        if number is None:
            # Libraries that can sign nothing but text have signed what was packed afterwards.
            number = await _signer_of(signers, claim, body)
    if signers.organization is None or number is None:
        raise NotVerified
    _check_time(claim)
    if not await off_loop(len(body), is_utf8, body):
        raise NotUtf8
    async with desk.database.transaction() as session:
        await note_use(session, signers.secrets[number].id)
    return Verified(signers.organization, claim.id, body, lines)


def _claim_of(request: Request) -> Claim:
    try:
        return webhooks.read_headers(request.headers.raw)
    except MalformedError:
        raise NotVerified from None


def _check_time(claim: Claim) -> None:
    """NotVerified, which says why: only whoever has the secret is told."""
    moment = now().timestamp()
    if not claim.is_timely(moment):
        when = "in the past" if claim.timestamp < moment else "in the future"
        raise NotVerified(f"It was signed more than five minutes {when}: send it again, signed anew.")


async def _signers(desk: Desk, partner: str) -> _Signers:
    async with desk.database.transaction() as session:
        found = await organizations.find(session, partner)
        if found is None or found.kind != "partner":
            return _Signers(None, [])
        return _Signers(found, await live_secrets(session, desk.ring, found.id, "standard"))


async def _signer_of(signers: _Signers, claim: Claim, body: bytes) -> int | None:
    number = await off_loop(len(body) * len(signers.keys), webhooks.signer_of, signers.keys, claim, body)
    return number if signers.secrets else None


def _is_lines(request: Request) -> bool:
    """Whether the body is lines, by its type; NotABatch."""
    given = request.headers.getlist("content-type")
    media_type, *parameters = (given[0] if len(given) == 1 else "").split(";")
    media_type = media_type.strip().lower()
    charsets = {value.strip(' "').lower() for name, _, value in map(_parted, parameters) if name == "charset"}
    if media_type not in {JSON, *_OF_LINES} or not charsets <= _UTF8:
        raise NotABatch
    return media_type in _OF_LINES


def _parted(parameter: str) -> tuple[str, str, str]:
    name, equals, value = parameter.partition("=")
    return name.strip().lower(), equals, value


def _is_packed(request: Request) -> bool:
    """Whether the body is gzip; UnknownEncoding."""
    encoding = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding not in {"", "identity", *_GZIP}:
        raise UnknownEncoding
    return encoding in _GZIP
