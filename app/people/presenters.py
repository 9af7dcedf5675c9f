"""Presenters: a person's data as it is shown to them, and to organizations they have consented to."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy.ext.asyncio import AsyncSession

from app.people import queries
from app.people.models import Consent
from app.people.schemas import ConsentView, PersonView
from app.people.sealing import Details


def show_person(details: Details) -> PersonView:
    """A person's details as they see them; an empty text becomes null."""
    return PersonView.model_validate(
        {name: value or None for name, value in asdict(details).items() if name != "proven"}
    )


async def show_consents(session: AsyncSession, signer: bytes, entries: Sequence[Consent]) -> list[ConsentView]:
    """Ledger entries, each with its text, and whether it is the one that counts."""
    texts = await queries.texts_by_id(session, {entry.text_id for entry in entries if entry.text_id})
    names = {entry.organization_id for entry in entries} | {entry.partner_id for entry in entries if entry.partner_id}
    organizations = await queries.organizations_by_id(session, names)
    latest = {entry.id for entry in (await queries.latest_of(session, signer)).values()}
    views = []
    for entry in entries:
        text = texts.get(entry.text_id) if entry.text_id else None
        partner = organizations.get(entry.partner_id) if entry.partner_id else None
        views.append(
            ConsentView(
                id=entry.id,
                organization=organizations[entry.organization_id].slug,
                organization_name=organizations[entry.organization_id].name,
                purpose=entry.purpose,
                given=entry.given,
                proven=entry.proven,
                latest=entry.id in latest,
                text_version=text.version if text else None,
                text=text.body if text else None,
                decided_at=entry.decided_at,
                petition_id=entry.petition_id,
                partner=partner.slug if partner else None,
                page=entry.page,
            )
        )
    return views
