"""What the stories about rules share: signatures with traces of their own, and a worker that carries things out."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx

from app.kit.clock import now
from app.kit.database.session import Database
from app.signatures.background import runner
from app.signatures.engine import insert
from app.signatures.engine.insert import Signing
from app.signatures.engine.lanes import Lane, claim
from app.signatures.engine.scan import Passes
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


def prepared_signing(petition_id: UUID, body: Json, **traces: Any) -> Signing:
    """One person's signature; `signed_at` in the body, traces as they are kept."""
    read = ImportedSigning.model_validate(body)
    prepared = prepare(RING, petition_id, read, read.signed_at or now())
    return prepared._replace(traces=prepared.traces._replace(**traces))


async def sign_all(database: Database, signings: Iterable[Signing]) -> None:
    """All of them, in one batch."""
    async with claimed_lane(database) as lane:
        await insert.sign(lane, list(signings))


async def apply_all(database: Database, petition_id: UUID) -> list[int]:
    """Carry out all there is; the count after each slice, proven each time."""
    counts, passes = [], Passes()
    async with claimed_lane(database) as lane:
        while await runner.work_slice(lane, RING, passes):
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


async def change_state(client: httpx.AsyncClient, headers: Headers, invalidation: Json, verb: str) -> Json:
    """Apply or undo it; its view."""
    answer = await client.post(f"{AT}/invalidations/{invalidation['id']}/{verb}", headers=headers)
    assert answer.status_code == 200, answer.text
    view: Json = answer.json()
    return view
