"""Signing in by a mailed link: it works once, in a browser in which a link was asked for, within minutes of that.

Anybody can ask for anybody's link. So asking tells nothing, and uses nothing up:

- Whoever is asked for gets a mail, in the same words, known or not. What is written here is the same for everybody.
- While a link is good and unused, asking again sends no other (`mailing.py`). Every browser that asked can use the one
  that was mailed: who reads the mailbox is not kept out by a stranger who asked first.
- A device on which the person has signed in before has a mail of its own (`devices.py`).

A browser shows by its binding for whom it asked, and when. A link outlives the asking by as much again, so that
whoever asks in its last minute still has all the time that the mail promises. Whatever is wrong with a link, the answer
is the same.
"""

import hmac
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now, this_second
from app.kit.crypto.bearer_secrets import digest_of
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.ids import uuid7_of_second
from app.kit.problems import Forbidden
from app.people.account import devices
from app.people.account.sessions import NewSession, begin
from app.people.fields.emails import canonical, without_ignored
from app.people.models import OutgoingMail, SignIn
from app.people.sealing import (
    Binding,
    Details,
    MailContent,
    SignInToken,
    read_binding,
    read_sign_in_token,
    seal_mail,
    write_binding,
)

# How long a browser that asked can use a link; and no second link is mailed so long after the first.
LIFETIME = timedelta(minutes=15)
LINK_LIFETIME = 2 * LIFETIME


class SignInRefused(Forbidden):
    """This link signs nobody in here; ask for a new one, and open it in the same browser."""

    slug = "sign-in-refused"


class SignInRequest(NamedTuple):
    """Somebody asks for a link to sign in by. `known_device`: on a device on which this person has signed in before."""

    signer: bytes
    email: str
    locale: str
    known_device: bool


class SignedIn(NamedTuple):
    """A session that has just begun, and the token that tells its device from others."""

    session: NewSession
    device: str


def request_by(ring: KeyRing, email: str, locale: str | None, device: str | None) -> SignInRequest:
    """The request of whoever has this address, which was validated before, with the token of their device, if any."""
    signer = ring.digest(canonical(email))
    return SignInRequest(signer, email, locale or "", devices.is_known(ring, device, signer))


async def request_link(session: AsyncSession, ring: KeyRing, wanted: SignInRequest) -> str:
    """Store the sign-in and have its link mailed, unless one is good already; the binding for the browser."""
    moment, id_ = this_second(), uuid7_of_second()
    binding = write_binding(ring, Binding(wanted.signer, moment, wanted.email, wanted.locale))
    sign_in = SignIn(
        id=id_,
        signer=wanted.signer,
        binding_digest=digest_of(binding),
        asked_at=moment,
        expires_at=moment + LIFETIME,
        known_device=wanted.known_device or None,
    )
    content = MailContent(sign_in=id_, email=without_ignored(wanted.email), locale=wanted.locale)
    mail = OutgoingMail(id=id_, kind="sign_in", signer=wanted.signer, sealed=seal_mail(ring, id_, content))
    session.add_all([sign_in, mail])
    await session.flush()
    return binding


async def sign_in(session: AsyncSession, ring: KeyRing, token: str, binding: str | None) -> SignedIn:
    """Use the link up, and begin a session; SignInRefused.

    A browser in which nobody asked is refused without using the link up. So even a mail scanner that presses buttons
    leaves the link good for its owner.
    """
    moment = now()
    try:
        link = read_sign_in_token(ring, token)
    except SealBrokenError:
        raise SignInRefused from None
    row = await session.get(SignIn, link.sign_in_id)
    if row is None:
        raise SignInRefused
    asked = _read_binding(ring, binding or "", row, link)
    if not hmac.compare_digest(asked.signer, row.signer) or moment >= asked.asked_at + LIFETIME:
        raise SignInRefused
    await _use_up(session, row, moment)
    # What was typed in this very browser: the link may have been asked for by a stranger, who chose how to spell it.
    begun = await begin(session, ring, row.signer, Details(asked.email, locale=asked.locale or None))
    return SignedIn(begun, devices.new_token(ring, row.signer))


def _read_binding(ring: KeyRing, binding: str, row: SignIn, link: SignInToken) -> Binding:
    """What the browser with this binding has asked for; SignInRefused."""
    try:
        return read_binding(ring, binding)
    except SealBrokenError:
        # The version before has given out random bindings, each for one link.
        if hmac.compare_digest(row.binding_digest, digest_of(binding)):
            return Binding(row.signer, row.asked_at, link.email, link.locale)
        raise SignInRefused from None


async def _use_up(session: AsyncSession, link: SignIn, moment: datetime) -> None:
    """Mark the link as used; SignInRefused when it has been, or is too old."""
    # A link can be followed before it is written down that it was mailed.
    given_at = func.coalesce(SignIn.mailed_at, SignIn.asked_at)
    usable = (SignIn.id == link.id, SignIn.used_at.is_(None), given_at > moment - LINK_LIFETIME)
    used = update(SignIn).where(*usable).values(used_at=this_second()).returning(SignIn.id)
    if await session.scalar(used.execution_options(synchronize_session=False)) is None:
        raise SignInRefused
