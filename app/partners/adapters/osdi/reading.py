"""OSDI presenters: how petitions are shown in its shapes. It shows only what is public, with or without a token."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.paging import HIGHEST_LIMIT, UnknownCursor, cursor_of, page_of
from app.partners.adapters.osdi.schemas import (
    HalLink,
    OsdiEntryPoint,
    OsdiPaging,
    OsdiPetition,
    OsdiPetitionList,
    OsdiPetitions,
    OsdiSignature,
    OsdiTarget,
)
from app.partners.settings import PartnerSettings
from app.petitions import queries
from app.petitions.models import Petition
from app.signatures.reading.counts import Counts

NAMESPACE = "multitude"
SYSTEM = "Multitude"
# The last that was published.
VERSION = "1.2.0"
_DOCS = "https://opensupporter.github.io/osdi-docs/{rel}"


def entry_point(settings: PartnerSettings) -> OsdiEntryPoint:
    """Where everything begins."""
    at = f"{settings.public_url}/v1/osdi"
    links: dict[str, Any] = {
        "curies": _curies(settings),
        "self": HalLink(href=at, title="This entry point"),
        "osdi:petitions": HalLink(href=f"{at}/petitions", title="The petitions"),
        "osdi:record_signature_helper": HalLink(
            href=f"{at}/petitions/{{petition}}/record_signature_helper",
            title="Records a signature under a petition: its id or its slug",
            templated=True,
        ),
        "docs": HalLink(href=f"{settings.public_url}/docs", title="The documentation"),
    }
    return OsdiEntryPoint(
        motd="Petitions, and signatures for those who may bring them.",
        vendor_name=SYSTEM,
        product_name=SYSTEM,
        osdi_version=VERSION,
        max_pagesize=HIGHEST_LIMIT,
        namespace=NAMESPACE,
        links=links,
    )


async def show_petition(settings: PartnerSettings, counts: Counts, petition: Petition) -> OsdiPetition:
    """One petition, in its own words."""
    shown = _petition(settings, petition, await counts.get(petition.id))
    shown.links = {"curies": _curies(settings), **shown.links}
    return shown


async def show_petitions(
    session: AsyncSession, settings: PartnerSettings, counts: Counts, paging: OsdiPaging
) -> OsdiPetitions:
    """A page of petitions, newest first. UnknownCursor for a page that no link of ours leads to."""
    if (paging.cursor is None) != (paging.page == 1):
        raise UnknownCursor("Begin with the first page and follow _links.next.")
    visible = queries.visible_to(None)
    page = await page_of(session, visible, Petition.id, paging.as_paging(), lambda petition: petition)
    total = await session.scalar(visible.with_only_columns(func.count())) or 0
    embedded = OsdiPetitionList(petitions=await _shown(settings, counts, page["items"]))
    return OsdiPetitions(
        page=paging.page,
        per_page=paging.per_page,
        total_pages=max(1, -(-total // paging.per_page)),
        total_records=total,
        links=_ways(settings, paging, page["next_cursor"], embedded.petitions),
        embedded=embedded,
    )


async def _shown(settings: PartnerSettings, counts: Counts, petitions: Sequence[Petition]) -> list[OsdiPetition]:
    # Asked for together, the counts are read together.
    totals = await asyncio.gather(*(counts.get(petition.id) for petition in petitions))
    return [_petition(settings, petition, total) for petition, total in zip(petitions, totals, strict=True)]


def _ways(
    settings: PartnerSettings, paging: OsdiPaging, next_cursor: str | None, petitions: Sequence[OsdiPetition]
) -> dict[str, HalLink | list[HalLink]]:
    at = f"{settings.public_url}/v1/osdi/petitions?per_page={paging.per_page}"
    after = paging.as_paging().after()
    here = "" if after is None else f"&page={paging.page}&cursor={cursor_of(after)}"
    ways: dict[str, HalLink | list[HalLink]] = {"curies": _curies(settings), "self": HalLink(href=f"{at}{here}")}
    if next_cursor is not None:
        ways["next"] = HalLink(href=f"{at}&page={paging.page + 1}&cursor={next_cursor}")
    themselves = [own for petition in petitions if isinstance(own := petition.links["self"], HalLink)]
    return {**ways, "osdi:petitions": themselves}


def _petition(settings: PartnerSettings, petition: Petition, total: int) -> OsdiPetition:
    at = petition_url(settings, petition.slug)
    page = settings.petition_link.replace("{petition}", petition.slug)
    return OsdiPetition(
        identifiers=[f"{NAMESPACE}:{petition.id}"],
        origin_system=SYSTEM,
        created_date=petition.created_at,
        modified_date=petition.updated_at,
        name=petition.slug,
        title=petition.title,
        summary=petition.ask,
        description=petition.background,
        petition_text=petition.ask,
        browser_url=page or None,
        total_signatures=total,
        target=[OsdiTarget(name=petition.target)] if petition.target else [],
        links={
            "self": HalLink(href=at),
            "osdi:record_signature_helper": HalLink(href=f"{at}/record_signature_helper"),
            f"{NAMESPACE}:campaign": HalLink(href=f"{settings.public_url}/v1/campaigns/{petition.campaign_id}"),
        },
    )


def show_signature(
    settings: PartnerSettings, slug: str, identifiers: Sequence[str], recorded_at: datetime, signed_at: datetime
) -> OsdiSignature:
    """A signature that was recorded. It has no page of its own to link to."""
    return OsdiSignature(
        identifiers=list(identifiers),
        origin_system=SYSTEM,
        created_date=recorded_at,
        modified_date=recorded_at,
        action_date=signed_at,
        links={"curies": _curies(settings), "osdi:petition": HalLink(href=petition_url(settings, slug))},
    )


def petition_url(settings: PartnerSettings, slug: str) -> str:
    """Where a petition is read."""
    return f"{settings.public_url}/v1/osdi/petitions/{slug}"


def _curies(settings: PartnerSettings) -> list[HalLink]:
    own = f"{settings.public_url}/docs#{{rel}}"
    return [
        HalLink(name="osdi", href=_DOCS, templated=True),
        HalLink(name=NAMESPACE, href=own, templated=True),
    ]
