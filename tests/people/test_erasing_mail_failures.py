"""Whoever is erased leaves no failure of a mail to them behind, though a mail to them be on its way."""

from collections.abc import Sequence

import httpx
import pytest

from app.kit.abuse.rate_limits import open_limiter
from app.kit.database.session import Database
from app.kit.mail.outcome import Outcome, SendResult
from app.kit.mail.sender import ClaimedMail, MailSource, Result
from app.settings import Settings
from app.signatures.background.mails import SignatureMails
from tests.support.databases import run
from tests.support.factories import insert_petition, person
from tests.support.people_mails import AMINA, TEMPLATES, Postman
from tests.support.types import Headers

MAKE_DUE = (
    "UPDATE signatures SET mail_due_at = now() - interval '1 s' WHERE due_mail IS NOT NULL",
    "UPDATE mails SET due_at = now() - interval '1 s'",
)
FAILED = [SendResult(Outcome.LATER, "smtp-timeout"), SendResult(Outcome.UNREADABLE, "unreadable")]


async def claim(database: Database, sources: Sequence[MailSource]) -> list[ClaimedMail]:
    """The only mail of each."""
    for statement in MAKE_DUE:
        await run(database, statement)
    claims = [await source.claim(10) for source in sources]
    return [mail for claim in claims for mail in claim.mails]


@pytest.mark.parametrize("choice", ["keep", "withdraw"])
@pytest.mark.parametrize("failed", [*FAILED, SendResult(Outcome.REFUSED, "smtp-refused-recipient-550")])
async def test_an_erasure_takes_the_failures_with_it_and_what_is_on_its_way_leaves_none(
    client: httpx.AsyncClient,
    amina: Headers,
    postman: Postman,
    database: Database,
    settings: Settings,
    failed: SendResult,
    choice: str,
) -> None:
    await insert_petition(database, "quiet-nights", confirmation="email")
    await client.post("/v1/petitions/quiet-nights/signatures", json=person(1, email=AMINA))
    await client.post("/v1/sign-ins", json={"email": AMINA})
    sources = [SignatureMails(database, settings, TEMPLATES, open_limiter(settings)), postman.source]
    for source, mail in zip(sources, await claim(database, sources), strict=True):
        await source.settle([Result(mail, Outcome.LATER, "smtp-timeout")])
    assert len(await run(database, "SELECT 1 FROM mail_failures")) == 2
    on_their_way = await claim(database, sources)
    assert len(on_their_way) == 2
    erased = await client.post("/v1/me/erasure", json={"signatures": choice}, headers=amina)
    assert erased.status_code == 200
    assert await run(database, "SELECT 1 FROM mail_failures") == []
    for source, mail in zip(sources, on_their_way, strict=True):
        await source.settle([Result(mail, *failed)])
    assert await run(database, "SELECT 1 FROM mail_failures") == []
