"""Who sends a webhook in another system's shape, and under which terms a petition is fed by it."""

import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from fastapi import Request

from app.kit.large_bodies import off_loop
from app.kit.problems import Forbidden, Unauthorized
from app.organizations import queries as organizations
from app.organizations import service
from app.organizations.keys import looks_like_a_key
from app.organizations.models import Organization
from app.partners.inbound.bringing import PetitionNotCovered
from app.partners.inbound.desk import Desk
from app.partners.inbound.verifying import NotVerified
from app.partners.secrets import live_secrets, note_use
from app.partners.shapes.rules import Frame
from app.partners.terms import Fed, fed_petitions

TOKEN = "OSDI-API-Token"  # noqa: S105 - a header's name


Opens: TypeAlias = Callable[[Sequence[str]], int | None]


class Feeding(NamedTuple):
    """A partner that feeds a petition, and what translations must know of both."""

    organization: Organization
    petition: Fed
    frame: Frame


async def by_token(desk: Desk, request: Request) -> Organization:
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


async def by_secret(desk: Desk, partner: str, scheme: str, opens: Opens, size: int = 0) -> Organization:
    """The partner, if `opens` finds one of its live secrets to be the one; NotVerified, alike whatever is wrong.

    For a partner that is not known, or that has no secret, one that nobody has stands in. `size`: bytes that are gone
    through for each secret.
    """
    async with desk.database.transaction() as session:
        found = await organizations.find(session, partner)
        known = found is not None and found.kind == "partner"
        live = await live_secrets(session, desk.ring, found.id, scheme) if found is not None and known else []
    texts = [one.secret for one in live] or [secrets.token_urlsafe()]
    number = await off_loop(size * len(texts), opens, texts)
    if found is None or not live or number is None:
        raise NotVerified
    async with desk.database.transaction() as session:
        await note_use(session, live[number].id)
    return found


async def feeding(desk: Desk, organization: Organization, petition: str) -> Feeding:
    """What this partner may do for this petition; PetitionNotCovered."""
    async with desk.database.transaction() as session:
        fed = (await fed_petitions(session, organization.id, [petition])).get(petition)
    if fed is None:
        raise PetitionNotCovered
    asked = await desk.room.asking.fresh(organization.slug)
    in_words = asked is not None and bool(asked.texts.get("news"))
    return Feeding(organization, fed, Frame(str(fed.id), organization.slug, in_words))
