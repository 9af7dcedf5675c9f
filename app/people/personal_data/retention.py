"""Retention of people: rows are deleted when no consent stands any more and the person is signed in nowhere.

Every row is looked at once in 30 days, through an index on `looked_at`: most rows stay, so they must not be searched. A
phone number and a place are kept only under a consent that stands, so nobody without a consent has one. The ledger of
consents stays: if an old consent is brought again, it must be known that it was taken back.
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
# A row without a reason to be kept is deleted so long after its last change, and a row is looked at again as seldom.
_KEPT = timedelta(days=30)
_CONSENTS_TO_NOTHING = text(f"NOT {HAS_CONSENT_SQL.format(signer='people.signer')}")


async def forget_people(session: AsyncSession) -> Sequence[bytes]:
    """Look at up to `BATCH` people, and delete those without a reason to be kept; the keys of the deleted.

    They are locked first, and checked in a second statement. So a consent entered just before the lock is seen, and
    whoever comes back after it waits for the lock and gets a new row (`account.service.remember_all`).
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
    # The person has changed nothing: `updated_at` stays.
    await session.execute(update(Person).where(looked_at).values(looked_at=moment, updated_at=Person.updated_at))
    return deleted
