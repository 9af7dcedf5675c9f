"""Dependencies of the adapters: who sends a webhook in another system's shape, and for which petition."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from fastapi import Request

from app.kit.problems import Forbidden, Unauthorized
from app.kit.web.bodies import NotJson
from app.kit.web.large_bodies import BodyReservation
from app.kit.webhooks.signing import BodyVerifier
from app.organizations import service
from app.organizations.keys import looks_like_a_key
from app.organizations.models import Organization
from app.partners.adapters import controlshift
from app.partners.adapters.translation import Context
from app.partners.inbound.acceptance import PetitionNotCovered
from app.partners.inbound.secrets.service import note_use
from app.partners.inbound.services import InboundServices
from app.partners.inbound.verification import Sender, find_sender, read_verifying
from app.partners.partnerships.terms import CoveredPetition, covered_petitions

JSON = "application/json"
TOKEN = "OSDI-API-Token"  # noqa: S105 - a header's name

Opens: TypeAlias = Callable[[Sequence[str]], int | None]


class PartnerPetition(NamedTuple):
    """A partner, a petition it may bring signatures for, and the context of translations."""

    organization: Organization
    petition: CoveredPetition
    context: Context


def check_type(request: Request, *allowed: str) -> None:
    """NotJson when the body is announced as anything else."""
    given = request.headers.getlist("content-type")
    if len(given) != 1 or given[0].partition(";")[0].strip().lower() not in allowed:
        raise NotJson


async def by_token(services: InboundServices, request: Request) -> Organization:
    """The partner whose key stands where OSDI puts it. Unauthorized, Forbidden."""
    given = request.headers.getlist(TOKEN)
    if len(given) != 1 or not looks_like_a_key(given[0]):
        raise Unauthorized
    async with services.database.transaction() as session:
        principal = await service.recognize(session, given[0])
    if principal is None:
        raise Unauthorized
    if principal.role != "partner":
        raise Forbidden
    async with services.database.transaction() as session:
        return await service.find(session, str(principal.organization_id))


async def by_secret(services: InboundServices, partner: str, scheme: str, opens: Opens) -> Organization:
    """The partner, if `opens` finds one of its live secrets to be the one; NotVerified, alike whatever is wrong."""
    sender = await find_sender(services, partner, scheme)
    return await recognized(services, sender, opens([one.secret for one in sender.secrets]))


async def recognized(services: InboundServices, sender: Sender, number: int | None) -> Organization:
    """The partner whose secret of this number was used; NotVerified."""
    organization, secret = sender.verified_by(number)
    async with services.database.transaction() as session:
        await note_use(session, secret.id)
    return organization


async def by_signature(
    services: InboundServices, request: Request, partner: str, reservation: BodyReservation
) -> tuple[Organization, bytes]:
    """The partner that has signed this body as ControlShift does, and the body; NotVerified, TooLarge, TooSlow,
    QueueFull."""
    sender = await find_sender(services, partner, "controlshift")
    given = controlshift.signatures_of(request.headers.getlist(controlshift.HEADER))
    sender.reserve(reservation, held=bool(given))
    keys = [one.secret.encode() for one in sender.secrets]
    body, number = await read_verifying(services, request, reservation, BodyVerifier(keys), given)
    return await recognized(services, sender, number), body


async def partner_petition(services: InboundServices, organization: Organization, petition: str) -> PartnerPetition:
    """What this partner may do for this petition; PetitionNotCovered."""
    async with services.database.transaction() as session:
        found = (await covered_petitions(session, organization.id, [petition])).get(petition)
    if found is None:
        raise PetitionNotCovered
    asked = await services.signing.consent_policies.refresh(organization.slug)
    in_words = asked is not None and bool(asked.texts.get("news"))
    return PartnerPetition(organization, found, Context(str(found.id), organization.slug, in_words))
