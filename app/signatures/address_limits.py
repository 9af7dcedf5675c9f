"""Limits of signatures by client address: what is over them is not refused, nor told, but does not count unproven.

Nobody can tell a school that shares one address from somebody who signs in a thousand names. So what is over the limit
is asked to confirm by mail, where mail is possible: whoever is real counts all the same. And since mails that strangers
cause are a harm too, they have a limit of their own; what is over that is held until staff decide.
"""

from dataclasses import dataclass

from app.kit.abuse.address_digests import AddressDigests
from app.kit.abuse.protection import AbuseProtection
from app.petitions.directory import Entry
from app.petitions.models import NO_ADDRESS_LIMIT


@dataclass(frozen=True, slots=True)
class AddressLimits:
    """The limits of one process, an hour each: signatures that count unproven under one petition, where staff have not
    said how many, and mails that ask to confirm. `can_mail`: there is a way to send mails."""

    protection: AbuseProtection
    signatures: int
    mails: int
    can_mail: bool

    async def hold(self, petition: Entry, digests: AddressDigests | None) -> bool | None:
        """Count one attempt; what it has to wait for, as `AbuseSignals.on_hold` says it.

        Where signatures are confirmed by mail none counts unproven: there only the mails are limited.
        """
        limit = petition.address_limit or self.signatures
        if digests is None or limit == NO_ADDRESS_LIMIT:
            return None
        by_mail = petition.confirmation == "email"
        if not by_mail and await self.protection.hit_by(digests, limit, "signatures", str(petition.id)):
            return None
        # A petition of which staff expect more from one address may cause more mails, too.
        mails = max(petition.address_limit or 0, self.mails)
        if (by_mail or self.can_mail) and await self.protection.hit_by(digests, mails, "signature-mails"):
            return None if by_mail else False
        return True
