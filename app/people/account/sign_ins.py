"""Signing in by a mailed link: it works once, for 15 minutes, in the browser that asked.

Asking for a link gives everybody the same answer in the same time, known or not: the worker looks up whether there is
anybody to write to when it sends the mail. Whatever is wrong with a link, the answer is the same.
"""

import hmac
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.kit.crypto.bearer_secrets import digest_of
from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.ids import uuid7
from app.kit.problems import Forbidden
from app.people.account import service
from app.people.account.keys import new_binding
from app.people.account.sessions import NewSession, begin
from app.people.fields.emails import canonical
from app.people.models import OutgoingMail, SignIn
from app.people.sealing import MailContent, SignInToken, read_sign_in_token, seal_mail

LIFETIME = timedelta(minutes=15)


class SignInRefused(Forbidden):
    """This link signs nobody in here; ask for a new one, and open it in the same browser."""

    slug = "sign-in-refused"


class SignInRequest(NamedTuple):
    """Somebody asks for a link to sign in by."""

    signer: bytes
    email: str
    locale: str


def request_by(ring: KeyRing, email: str, locale: str | None) -> SignInRequest:
    """The request of whoever has this address, which was validated before."""
    return SignInRequest(ring.digest(canonical(email)), email, locale or "")


async def request_link(session: AsyncSession, ring: KeyRing, wanted: SignInRequest, *, mailed: bool) -> str:
    """Store the sign-in and have its link mailed; the binding for the browser. Not `mailed` beyond the rate limit."""
    binding = new_binding()
    moment = now()
    sign_in = SignIn(
        id=uuid7(),
        signer=wanted.signer,
        binding_digest=digest_of(binding),
        asked_at=moment,
        expires_at=moment + LIFETIME,
    )
    session.add(sign_in)
    if mailed:
        session.add(_mail(ring, wanted, sign_in.id))
    await session.flush()
    return binding


def _mail(ring: KeyRing, wanted: SignInRequest, sign_in_id: UUID) -> OutgoingMail:
    id_ = uuid7()
    content = MailContent(sign_in=sign_in_id, email=wanted.email, locale=wanted.locale)
    return OutgoingMail(id=id_, kind="sign_in", signer=wanted.signer, sealed=seal_mail(ring, id_, content))


async def sign_in(session: AsyncSession, ring: KeyRing, token: str, binding: str | None) -> NewSession:
    """Use the link up, and begin a session; SignInRefused.

    Another browser than the one that asked is refused without using the link up. So even a mail scanner that presses
    buttons leaves the link good for its owner.
    """
    try:
        link = read_sign_in_token(ring, token)
    except SealBrokenError:
        raise SignInRefused from None
    signer = await _use_up(session, link, binding or "")
    await service.remember(session, ring, signer, email=link.email, locale=link.locale)
    return await begin(session, signer)


async def _use_up(session: AsyncSession, link: SignInToken, binding: str) -> bytes:
    expected = await session.scalar(select(SignIn.binding_digest).where(SignIn.id == link.sign_in_id))
    if expected is None or not hmac.compare_digest(expected, digest_of(binding)):
        raise SignInRefused
    moment = now()
    usable = (SignIn.id == link.sign_in_id, SignIn.used_at.is_(None), SignIn.expires_at > moment)
    signer: bytes | None = await session.scalar(
        update(SignIn).where(*usable).values(used_at=moment).returning(SignIn.signer)
    )
    if signer is None:
        raise SignInRefused
    return signer
