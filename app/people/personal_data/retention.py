"""Forgetting people whom there is no reason to keep: nothing they consented to stands, and they are signed in nowhere.

Every row is looked at once in 30 days, by an index of when it was: most of them stay, so there must be no searching
among them. A phone number and a place are kept only under a consent that stands, so who has neither consent nor session
has neither of these. The ledger stays: that a consent was taken back must be known when an old one is brought again.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, exists, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import now
from app.people.account.sessions import live
from app.people.models import Person, PersonSession
from app.people.queries import HAS_CONSENT_SQL

BATCH = 500
# Without a reason a row is kept for so long after its last change, and looked at as seldom.
_KEPT = timedelta(days=30)
_CONSENTS_TO_NOTHING = text(f"NOT {HAS_CONSENT_SQL.format(signer='people.signer')}")


async def forget_people(session: AsyncSession) -> Sequence[bytes]:
    """Look at up to `BATCH` people, and delete those without a reason to be kept; the keys of the deleted.

    They are locked first and looked at in a second statement: what was entered just before they were locked is seen,
    and who comes back after that waits and gets a new row (`service.remember_all`).
    """
    moment = now()
    due = select(Person.signer).where(Person.looked_at < moment - _KEPT).order_by(Person.looked_at).limit(BATCH)
    signers = (await session.scalars(due.with_for_update(skip_locked=True))).all()
    if not signers:
        return []
    looked_at = Person.signer.in_(signers)
    signed_in = exists().where(PersonSession.signer == Person.signer, live(moment))
    gone = delete(Person).where(looked_at, Person.updated_at < moment - _KEPT, ~signed_in, _CONSENTS_TO_NOTHING)
    deleted = (await session.scalars(gone.returning(Person.signer))).all()
    # Looking changes nothing that anybody has said: `updated_at` stays.
    await session.execute(update(Person).where(looked_at).values(looked_at=moment, updated_at=Person.updated_at))
    return deleted
