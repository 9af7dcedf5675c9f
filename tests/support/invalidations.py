"""What the stories about rules share: signatures with signals of their own, and a worker that carries things out."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx

from app.kit.clock import now
from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.petitions.clear_text import KNOWN, ClearText
from app.signatures.background import runner
from app.signatures.engine import insert
from app.signatures.engine.lanes import Lane, claim
from app.signatures.engine.scan import ScanProgress
from app.signatures.engine.signings import Origin, Signing
from app.signatures.models import Invalidation
from app.signatures.moderation import rules
from app.signatures.moderation.rules import StoredRule
from app.signatures.moderation.schemas import RuleBody
from app.signatures.schemas import ImportedSigning
from app.signatures.signing.prepare import prepare
from tests.support.settings import FINGERPRINT, RING
from tests.support.tallies import exact_count
from tests.support.types import Headers, Json

AT = "/v1/petitions/end-the-ban"


@asynccontextmanager
async def claimed_lane(database: Database) -> AsyncIterator[Lane]:
    """A lane for as long as the block lasts."""
    lane = await claim(database, FINGERPRINT)
    try:
        yield lane
    finally:
        lane.drop()


def prepared_signing(petition_id: UUID, body: Json, clear_text: ClearText = KNOWN, **signals: Any) -> Signing:
    """One person's signature; `signed_at` in the body, signals as they are stored."""
    read = ImportedSigning.model_validate(body)
    prepared = prepare(RING, petition_id, read, read.signed_at or now(), clear_text=clear_text)
    return prepared._replace(signals=prepared.signals._replace(**signals))


async def sign_all(database: Database, signings: Iterable[Signing], origin: Origin = Origin.SIGNER) -> None:
    """All of them, in one batch that came by this way."""
    async with claimed_lane(database) as lane:
        await insert.sign(lane, list(signings), origin)


async def apply_all(database: Database, petition_id: UUID) -> list[int]:
    """Carry out all there is; the count after each slice, proven each time."""
    counts, progress = [], ScanProgress()
    async with claimed_lane(database) as lane:
        while await runner.run_chunk(lane, RING, progress):
            async with database.snapshot() as session:
                counts.append(await exact_count(session, petition_id))
    return counts


async def draft_invalidation(client: httpx.AsyncClient, headers: Headers, **rule: Any) -> Json:
    """Draft an invalidation of `end-the-ban`; its view."""
    body = {"reason": "a farm of robots", "rule": rule}
    answer = await client.post(f"{AT}/invalidations", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    view: Json = answer.json()
    return view


async def insert_invalidation(database: Database, petition_id: UUID, **rule: Any) -> UUID:
    """One that is being applied, however few it matches, as staff of the version before could begin it; its id."""
    id_, stored = uuid7(), StoredRule(body=RuleBody.model_validate(rule))
    async with database.transaction() as session:
        sealed = rules.seal(RING, id_, stored)
        begun = {"state": "applying", "slice_count": 1, "signed_before": now()}
        session.add(Invalidation(id=id_, petition_id=petition_id, reason="an attack", sealed=sealed, **begun))
    return id_


async def change_state(client: httpx.AsyncClient, headers: Headers, invalidation: Json, verb: str) -> Json:
    """Apply or undo it; its view."""
    answer = await client.post(f"{AT}/invalidations/{invalidation['id']}/{verb}", headers=headers)
    assert answer.status_code == 200, answer.text
    view: Json = answer.json()
    return view
