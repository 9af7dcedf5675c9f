"""One-click unsubscribe (RFC 8058): the link in a mail withdraws the consent to news, however often it is used.

The link's token does not expire, for mails are read late, and it can do nothing else.
"""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.problems import NotFound
from app.people import queries
from app.people.consents import service as consents
from app.people.sealing import read_unsubscribe_token

# The `page` of such a withdrawal in the ledger.
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
    """Withdraw the consent that the token names, unless the person has done so; UnsubscribeLinkInvalid."""
    signer, organization_id = _read(ring, token)
    # Locked before it is read: of two clicks at once, the second finds the consent withdrawn.
    await queries.locked(session, [signer])
    latest = (await queries.latest_of(session, signer)).get((organization_id, "news"))
    # An unproven refusal is not enough, since anybody can have sent it: a later unproven consent would outrank it and
    # bring the mails back. So a proven one is entered on top.
    if latest is not None and (latest.given or not latest.proven):
        await consents.decide(session, ring, signer, organization_id, "news", given=False, page=PAGE)
