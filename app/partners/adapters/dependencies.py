"""Who sends a webhook in another system's shape, and under which terms a petition is fed by it."""

import os
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from fastapi import Request

from app.kit.problems import Forbidden, Unauthorized
from app.kit.web.large_bodies import BodyReservation
from app.kit.webhooks.signing import Hearing
from app.organizations import service
from app.organizations.keys import looks_like_a_key
from app.organizations.models import Organization
from app.partners.adapters import controlshift
from app.partners.adapters.translation import Frame
from app.partners.inbound.ingest import PetitionNotCovered
from app.partners.inbound.secrets.service import note_use
from app.partners.inbound.services import InboundServices
from app.partners.inbound.verification import Signers, heard, signers_of
from app.partners.partnerships.terms import Fed, fed_petitions

TOKEN = "OSDI-API-Token"  # noqa: S105 - a header's name


Opens: TypeAlias = Callable[[Sequence[str]], int | None]


class Feeding(NamedTuple):
    """A partner that feeds a petition, and what translations must know of both."""

    organization: Organization
    petition: Fed
    frame: Frame


async def by_token(desk: InboundServices, request: Request) -> Organization:
    """The partner whose key stands where OSDI puts it. Unauthorized, Forbidden."""
    given = request.headers.getlist(TOKEN)
    if len(given) != 1 or not looks_like_a_key(given[0]):
        raise Unauthorized
    async with desk.database.transaction() as session:
        principal = await service.recognize(session, given[0])
    if principal is None:
        raise Unauthorized
    if principal.role != "partner":
        raise Forbidden
    async with desk.database.transaction() as session:
        return await service.find(session, str(principal.organization_id))


async def by_secret(desk: InboundServices, partner: str, scheme: str, opens: Opens) -> Organization:
    """The partner, if `opens` finds one of its live secrets to be the one; NotVerified, alike whatever is wrong.

    For those that a partner might have, secrets that nobody has stand in.
    """
    signers = await signers_of(desk, partner, scheme)
    texts = [one.secret for one in signers.secrets] + signers.filled_up(secrets.token_urlsafe)
    return await recognized(desk, signers, opens(texts))


async def recognized(desk: InboundServices, signers: Signers, number: int | None) -> Organization:
    """The partner whose secret of this number was used; NotVerified."""
    organization, secret = signers.known(number)
    async with desk.database.transaction() as session:
        await note_use(session, secret.id)
    return organization


async def by_signature(
    desk: InboundServices, request: Request, partner: str, share: BodyReservation
) -> tuple[Organization, bytes]:
    """The partner that has signed this body as ControlShift does, and the body; NotVerified, TooLarge, TooSlow,
    QueueFull."""
    signers = await signers_of(desk, partner, "controlshift")
    given = controlshift.signatures_of(request.headers.getlist(controlshift.HEADER))
    signers.send(share, held=bool(given))
    keys = [one.secret.encode() for one in signers.secrets] + signers.filled_up(lambda: os.urandom(32))
    body, number = await heard(desk, request, share, Hearing(keys), given)
    return await recognized(desk, signers, number), body


async def feeding(desk: InboundServices, organization: Organization, petition: str) -> Feeding:
    """What this partner may do for this petition; PetitionNotCovered."""
    async with desk.database.transaction() as session:
        fed = (await fed_petitions(session, organization.id, [petition])).get(petition)
    if fed is None:
        raise PetitionNotCovered
    asked = await desk.room.asking.fresh(organization.slug)
    in_words = asked is not None and bool(asked.texts.get("news"))
    return Feeding(organization, fed, Frame(str(fed.id), organization.slug, in_words))
