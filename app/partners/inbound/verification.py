"""Verifying: who has signed a webhook, before anybody looks at what it says.

A partner that is not known is told the same as a wrong signature, after the same work. Of a body that is not verified
nothing is parsed.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from fastapi import Request

from app.kit.clock import now
from app.kit.problems import Problem, Unauthorized
from app.kit.web.bodies import TooLarge
from app.kit.web.large_bodies import BodyReservation, BrokenGzip, is_utf8, off_loop, promised_size
from app.kit.webhooks import signing as webhooks
from app.kit.webhooks.signing import Claim, Hearing, MalformedError
from app.organizations import queries as organizations
from app.organizations.models import Organization
from app.partners.inbound.secrets.service import LIVE_LIMIT, LiveSecret, key_of, live_secrets, note_use
from app.partners.inbound.services import InboundServices

Key = TypeVar("Key")

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


class Signers(NamedTuple):
    """Who may have signed what was posted to this name, and with what."""

    name: str
    organization: Organization | None
    secrets: list[LiveSecret]

    def filled_up(self, stranger: Callable[[], Key]) -> list[Key]:
        """Nobody's keys, to stand in for those that a partner might have: the work is the same for every name."""
        return [stranger() for _ in range(LIVE_LIMIT - len(self.secrets))]

    def known(self, number: int | None) -> tuple[Organization, LiveSecret]:
        """The partner, and its secret of this number; NotVerified."""
        if self.organization is None or number is None or number >= len(self.secrets):
            raise NotVerified
        return self.organization, self.secrets[number]

    def send(self, share: BodyReservation, *, held: bool = True) -> None:
        """Have what is read taken up for them: not at all, if nobody of this name can have signed it."""
        share.is_of(self.organization.id if self.organization else self.name, held=held and bool(self.secrets))


async def signers_of(desk: InboundServices, partner: str, scheme: str) -> Signers:
    """Who may sign in this scheme as the partner of this name."""
    async with desk.database.transaction() as session:
        found = await organizations.find(session, partner)
        if found is None or found.kind != "partner":
            return Signers(partner, None, [])
        return Signers(partner, found, await live_secrets(session, desk.ring, found.id, scheme))


async def verify(desk: InboundServices, request: Request, partner: str, share: BodyReservation) -> Verified:
    """The webhook, once it is shown that the partner has signed it, just now.

    NotVerified, NotABatch, UnknownEncoding, NotUtf8, TooLarge, TooSlow, BrokenGzip, QueueFull.
    """
    claim = _claim_of(request)
    lines, packed = _is_lines(request), _is_packed(request)
    signers = await signers_of(desk, partner, "standard")
    # Too late or too early it is heard to the end, for whoever has the secret is told which; but never read.
    held = bool(claim.signatures) and (packed or claim.is_timely(now().timestamp()))
    signers.send(share, held=held)
    keys = [key_of(one.secret) for one in signers.secrets] + signers.filled_up(lambda: os.urandom(32))
    body, number = await heard(desk, request, share, Hearing(keys, claim.signed), claim.signatures)
    if packed:
        body, number = await _unpacked(desk, share, body, number, partial(webhooks.signer_of, keys, claim))
    organization, secret = signers.known(number)
    _check_time(claim)
    if not await off_loop(len(body), is_utf8, body):
        raise NotUtf8
    async with desk.database.transaction() as session:
        await note_use(session, secret.id)
    return Verified(organization, claim.id, body, lines)


async def heard(
    desk: InboundServices, request: Request, share: BodyReservation, hearing: Hearing, signatures: Sequence[bytes]
) -> tuple[bytes, int | None]:
    """The body, as far as it is held, and the number of the key that has signed it."""

    async def hear(part: bytes) -> None:
        await off_loop(len(part) * LIVE_LIMIT, hearing.hear, part)

    body = await desk.bodies.read(request, share, hear)
    return body, hearing.signer(signatures)


async def _unpacked(
    desk: InboundServices,
    share: BodyReservation,
    packed: bytes,
    number: int | None,
    signer: Callable[[bytes], int | None],
) -> tuple[bytes, int | None]:
    """What is packed, and who has signed either. What a stranger may have packed is unpacked only if need be."""
    if number is not None:
        return await desk.bodies.unpack(packed, share, signed=True), number
    if promised_size(packed) > desk.bodies.longest:
        raise TooLarge
    if not share.held:
        raise NotVerified
    # Libraries that can sign nothing but text have signed what was packed afterwards.
    try:
        plain = await desk.bodies.unpack(packed, share, signed=False)
    except (TooLarge, BrokenGzip):
        # Nobody else would be told.
        raise NotVerified from None
    return plain, await off_loop(len(plain) * LIVE_LIMIT, signer, plain)


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
