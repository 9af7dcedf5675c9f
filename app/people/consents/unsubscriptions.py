"""Unsubscribing with one click (RFC 8058): the link in a mail takes back the consent to news, however often asked.

The token in it has no end, for mails are read late. It can do this one thing.
"""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.problems import NotFound
from app.people import queries
from app.people.consents import service as consents
from app.people.sealing import read_unsubscribe_token

# Where it was taken back, in the ledger.
PAGE = "unsubscribe"


class UnsubscribeLinkInvalid(NotFound):
    """This is no link of ours."""

    slug = "unsubscribe-link-invalid"


def _read(ring: KeyRing, token: str) -> tuple[bytes, UUID]:
    try:
        return read_unsubscribe_token(ring, token)
    except SealBrokenError:
        raise UnsubscribeLinkInvalid from None


async def organization_of(session: AsyncSession, ring: KeyRing, token: str) -> str:
    """The name of the organization whose mails the link ends; nothing is changed. UnsubscribeLinkInvalid."""
    _, organization_id = _read(ring, token)
    found = (await queries.organizations_by_id(session, [organization_id])).get(organization_id)
    if found is None:
        raise UnsubscribeLinkInvalid
    return found.name


async def unsubscribe(session: AsyncSession, ring: KeyRing, token: str) -> None:
    """Withdraw what the token is about, unless the person has done so; UnsubscribeLinkInvalid."""
    signer, organization_id = _read(ring, token)
    # Locked before it is looked at: of two clicks at once one finds it done.
    await queries.locked(session, [signer])
    latest = (await queries.latest_of(session, signer)).get((organization_id, "news"))
    # A refusal that anybody can have sent is none of theirs: another one of that kind would bring the mails back.
    if latest is not None and (latest.given or not latest.proven):
        await consents.decide(session, ring, signer, organization_id, "news", given=False, page=PAGE)
