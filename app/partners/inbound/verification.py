"""Signature verification: who has signed a webhook, before anybody looks at what it says.

Of a body that is not verified nothing is parsed. Whoever posts for a partner that is not known gets the same answer as
for a wrong signature, after the same work: the same rows are looked for, and the body is checked against a secret that
nobody has.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

from fastapi import Request

from app.kit.clock import now
from app.kit.problems import Problem, Unauthorized
from app.kit.web.bodies import TooLarge
from app.kit.web.large_bodies import BodyReservation, BrokenGzip, is_utf8, off_loop, promised_size
from app.kit.webhooks import signing as webhooks
from app.kit.webhooks.signing import BodyVerifier, MalformedHeadersError, SignatureHeaders
from app.organizations import queries as organizations
from app.organizations.models import Organization
from app.partners.inbound.secrets.service import LIVE_LIMIT, LiveSecret, key_of, live_secrets, new_secret, note_use
from app.partners.inbound.services import InboundServices

JSON, LINES = "application/json", "application/x-ndjson"
# In the field lines go by several names; none is registered.
_OF_LINES = {LINES, "application/ndjson", "application/jsonl"}
_GZIP = {"gzip", "x-gzip"}
_UTF8 = {"utf-8", "utf8"}
_NOBODY = UUID(int=0)
# What is posted for who cannot have signed it is checked against this: known to nobody, and gone with the process.
_NOBODYS = LiveSecret(_NOBODY, new_secret("standard"))


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


class Sender(NamedTuple):
    """Who is said to have sent a webhook: the partner of this name, and its live secrets.

    Without a partner of this name, or a live secret of it: nobody, and a secret that opens nothing.
    """

    name: str
    organization: Organization | None
    secrets: list[LiveSecret]

    def verified_by(self, number: int | None) -> tuple[Organization, LiveSecret]:
        """The partner, and its secret of this number; NotVerified."""
        if self.organization is None or number is None:
            raise NotVerified
        return self.organization, self.secrets[number]

    def reserve(self, reservation: BodyReservation, *, held: bool = True) -> None:
        """Have the body count as theirs; it is not held at all if nobody of this name can have signed it."""
        own = self.organization.id if self.organization else self.name
        reservation.assign_to(own, buffered=held and self.organization is not None)


async def find_sender(services: InboundServices, partner: str, scheme: str) -> Sender:
    """Who may sign in this scheme as the partner of this name."""
    async with services.database.transaction() as session:
        found = await organizations.find_partner(session, partner)
        secrets = await live_secrets(session, services.ring, found.id if found else _NOBODY, scheme)
    return Sender(partner, found, secrets) if secrets else Sender(partner, None, [_NOBODYS])


async def verify(services: InboundServices, request: Request, partner: str, reservation: BodyReservation) -> Verified:
    """The webhook, once it is shown that the partner has signed it, just now.

    NotVerified, NotABatch, UnknownEncoding, NotUtf8, TooLarge, TooSlow, BrokenGzip, QueueFull.
    """
    headers = _signature_headers(request)
    lines, packed = _is_lines(request), _is_packed(request)
    sender = await find_sender(services, partner, "standard")
    # What is too old or too new is read to the end, for whoever has the secret is told which; but it is not held.
    held = bool(headers.signatures) and (packed or headers.is_timely(now().timestamp()))
    sender.reserve(reservation, held=held)
    keys = [key_of(one.secret) for one in sender.secrets]
    verifier = BodyVerifier(keys, headers.signed)
    body, number = await read_verifying(services, request, reservation, verifier, headers.signatures)
    if packed:
        body, number = await _unpacked(services, reservation, body, number, partial(webhooks.find_key, keys, headers))
    organization, secret = sender.verified_by(number)
    _check_time(headers)
    if not await off_loop(len(body), is_utf8, body):
        raise NotUtf8
    async with services.database.transaction() as session:
        await note_use(session, secret.id)
    return Verified(organization, headers.id, body, lines)


async def read_verifying(
    services: InboundServices,
    request: Request,
    reservation: BodyReservation,
    verifier: BodyVerifier,
    signatures: Sequence[bytes],
) -> tuple[bytes, int | None]:
    """The body, as far as it is held, and the number of the key that has signed it."""

    async def update(part: bytes) -> None:
        await off_loop(len(part) * LIVE_LIMIT, verifier.update, part)

    body = await services.bodies.read(request, reservation, update)
    return body, verifier.find_key(signatures)


async def _unpacked(
    services: InboundServices,
    reservation: BodyReservation,
    packed: bytes,
    number: int | None,
    find_key: Callable[[bytes], int | None],
) -> tuple[bytes, int | None]:
    """What is packed, and who has signed either. What a stranger may have packed is unpacked only if need be."""
    if number is not None:
        return await services.bodies.unpack(packed, reservation, signed=True), number
    if promised_size(packed) > services.bodies.longest:
        raise TooLarge
    if not reservation.buffered:
        raise NotVerified
    # Libraries that can sign nothing but text have signed what was packed afterwards.
    try:
        plain = await services.bodies.unpack(packed, reservation, signed=False)
    except (TooLarge, BrokenGzip):
        # The answer to a wrong signature: who has no secret must not learn that a body was unpacked.
        raise NotVerified from None
    return plain, await off_loop(len(plain) * LIVE_LIMIT, find_key, plain)


def _signature_headers(request: Request) -> SignatureHeaders:
    try:
        return webhooks.read_headers(request.headers.raw)
    except MalformedHeadersError:
        raise NotVerified from None


def _check_time(headers: SignatureHeaders) -> None:
    """NotVerified, which says why: only whoever has the secret is told."""
    moment = now().timestamp()
    if not headers.is_timely(moment):
        when = "in the past" if headers.timestamp < moment else "in the future"
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
