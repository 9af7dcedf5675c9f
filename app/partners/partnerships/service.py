"""Inviting partner organizations, and what becomes of an invitation.

    invited -> active -> ended
            -> declined
            -> ended, when it is taken back

Terms never change. New ones are a new invitation, and accepting it ends the former partnership in the same
transaction: there is no moment without terms, and none with two.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.campaigns.models import Campaign
from app.kit.clock import now
from app.kit.problems import Conflict, Invalid, NotFound
from app.organizations.principals import Principal
from app.partners.models import Partnership
from app.partners.partnerships import queries
from app.partners.partnerships.schemas import InvitationBody
from app.people.consents.policy import UnknownOrganization


class PartnershipNotFound(NotFound):
    """There is no such partnership."""

    slug = "partnership-not-found"


class NotAPartner(Invalid):
    """There is no partner organization of this name that could be invited."""

    slug = "not-a-partner"


class PetitionElsewhere(Invalid):
    """The terms name a petition that is not one of this campaign."""

    slug = "petition-elsewhere"


class InvitationOpen(Conflict):
    """This organization has an invitation to this campaign already that it has not answered."""

    slug = "invitation-open"


class PartnershipOutOfTurn(Conflict):
    """The partnership's state does not allow this."""

    slug = "partnership-out-of-turn"


async def find(session: AsyncSession, ref: str, principal: Principal | None) -> Partnership:
    """A partnership this principal may see, by its id; PartnershipNotFound."""
    partnership = await queries.find(session, ref, principal)
    if partnership is None:
        raise PartnershipNotFound
    return partnership


async def invite(session: AsyncSession, campaign: Campaign, by: Principal, body: InvitationBody) -> Partnership:
    """Offer a partner these terms; NotAPartner, UnknownOrganization, PetitionElsewhere, InvitationOpen."""
    partnership = Partnership(
        campaign_id=campaign.id,
        organization_id=await _invited(session, body),
        terms=body.terms,
        petition_ids=await _petition_ids(session, campaign.id, body.petitions),
        consents=[consent.model_dump() for consent in body.consents],
        receives_signers=body.receives_signers,
        default_country=body.default_country,
        invited_by=by.key_id,
    )
    session.add(partnership)
    try:
        await session.flush()
    except IntegrityError:
        raise InvitationOpen from None
    return partnership


async def _invited(session: AsyncSession, body: InvitationBody) -> UUID:
    asked = {consent.organization for consent in body.consents}
    known = await queries.known_organizations(session, asked | {body.organization})
    invited = known.get(body.organization)
    if invited is None or invited.kind != "partner":
        raise NotAPartner
    if not asked <= known.keys():
        raise UnknownOrganization
    return invited.id


async def _petition_ids(session: AsyncSession, campaign_id: UUID, refs: Sequence[str] | None) -> list[UUID] | None:
    if refs is None:
        return None
    found = await queries.petition_ids(session, campaign_id, refs)
    if not set(refs) <= found.keys():
        raise PetitionElsewhere
    return sorted(set(found.values()))


async def accept(session: AsyncSession, ref: str, by: Principal) -> Partnership:
    """Agree to the terms; nothing when that is done. PartnershipNotFound, PartnershipOutOfTurn.

    A former partnership of the same two ends at the moment at which this one begins.
    """
    partnership, standing = await _lock(session, ref, by)
    if partnership.state == "active":
        return partnership
    _expect_invited(partnership, "accepted")
    moment = now()
    for former in standing:
        if former.state == "active":
            _end(former, by, moment)
    # First, and flushed by itself: the index refuses a second active one.
    await session.flush()
    _answer(partnership, "active", by, moment)
    await session.flush()
    return partnership


async def decline(session: AsyncSession, ref: str, by: Principal) -> Partnership:
    """Turn an invitation down; nothing when that is done. PartnershipNotFound, PartnershipOutOfTurn."""
    partnership, _ = await _lock(session, ref, by)
    if partnership.state != "declined":
        _expect_invited(partnership, "declined")
        _answer(partnership, "declined", by, now())
    await session.flush()
    return partnership


async def end(session: AsyncSession, ref: str, by: Principal) -> Partnership:
    """End a partnership, or take an invitation back; nothing when that is done. PartnershipNotFound,
    PartnershipOutOfTurn."""
    partnership, _ = await _lock(session, ref, by)
    if partnership.state == "declined":
        raise PartnershipOutOfTurn("The invitation was declined: there is nothing to end.")
    if partnership.state != "ended":
        _end(partnership, by, now())
    await session.flush()
    return partnership


async def _lock(session: AsyncSession, ref: str, by: Principal) -> tuple[Partnership, list[Partnership]]:
    """The partnership and the open ones of the same two, locked until the commit."""
    found = await find(session, ref, by)
    return found, await queries.lock_beside(session, found)


def _expect_invited(partnership: Partnership, wanted: str) -> None:
    if partnership.state != "invited":
        raise PartnershipOutOfTurn(f"Its state is `{partnership.state}`; only an open invitation can be {wanted}.")


def _answer(partnership: Partnership, state: str, by: Principal, moment: datetime) -> None:
    partnership.state, partnership.answered_by, partnership.answered_at = state, by.key_id, moment


def _end(partnership: Partnership, by: Principal, moment: datetime) -> None:
    partnership.state, partnership.ended_by, partnership.ended_at = "ended", by.key_id, moment
