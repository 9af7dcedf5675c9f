"""Why a mail was not sent is kept with its row, and staff read it as counts, never with an address."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.kit.abuse.rate_limits import open_limiter
from app.kit.database.session import Database
from app.kit.mail.failures import forget_mail_failures
from app.kit.mail.outcome import Outcome, SendResult, advice_on
from app.kit.mail.sender import ClaimedMail, Result
from app.settings import Settings
from app.signatures.background.mails import SignatureMails
from app.signatures.signing.sealing import identity
from tests.support.application import running_worker
from tests.support.databases import run
from tests.support.factories import insert_petition, people_like, person
from tests.support.people_mails import TEMPLATES
from tests.support.smtp import SmtpServer
from tests.support.types import Json

AT = "/v1/mail-failures"
KEPT = "SELECT kind, state, reason, attempt FROM mail_failures ORDER BY mail_id"
Sign = Callable[..., Awaitable[None]]


@pytest.fixture
async def sign(client: httpx.AsyncClient, database: Database) -> Sign:
    """Sign a petition whose signatures are confirmed by mail, as so many people."""
    await insert_petition(database, confirmation="email")

    async def sign(count: int = 1) -> None:
        for body in people_like(count, person):
            answer = await client.post("/v1/petitions/end-the-ban/signatures", json=body)
            assert answer.status_code == 201, answer.text

    return sign


@pytest.fixture
def source(database: Database, settings: Settings) -> SignatureMails:
    return SignatureMails(database, settings, TEMPLATES, open_limiter(settings))


async def make_due(database: Database) -> None:
    await run(database, "UPDATE signatures SET mail_due_at = now() - interval '1 s' WHERE due_mail IS NOT NULL")


async def try_once(source: SignatureMails, database: Database, result: SendResult) -> ClaimedMail:
    """One attempt at the only mail that is due, with this result."""
    await make_due(database)
    (claimed,) = (await source.claim(10)).mails
    await source.settle([Result(claimed, *result)])
    return claimed


async def kept(database: Database) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await run(database, KEPT)]


async def test_the_last_reason_is_kept_until_the_mail_is_sent(
    sign: Sign, source: SignatureMails, database: Database
) -> None:
    await sign()
    for reason in ("smtp-auth-failed", "smtp-timeout"):
        await try_once(source, database, SendResult(Outcome.LATER, reason))
        assert await kept(database) == [("confirm_signature", "waiting", reason, 1)]
    await try_once(source, database, SendResult(Outcome.SENT))
    assert await kept(database) == []


async def test_a_refusal_is_kept_as_failed_and_another_mail_under_the_same_id_begins_anew(
    sign: Sign, source: SignatureMails, database: Database
) -> None:
    await sign()
    refused = SendResult(Outcome.REFUSED, "smtp-refused-recipient-550")
    claimed = await try_once(source, database, refused)
    assert await kept(database) == [("confirm_signature", "failed", "smtp-refused-recipient-550", 1)]
    assert (await run(database, "SELECT mail_id FROM mail_failures"))[0][0] == claimed.id
    await run(database, "UPDATE mail_failures SET first_failed_at = '2020-01-01', last_failed_at = '2020-01-01'")
    again = "UPDATE signatures SET due_mail = 'already_signed', mail_due_at = now(), mail_since = now()"
    await run(database, again)
    await try_once(source, database, SendResult(Outcome.UNKNOWN, "smtp-connection-lost"))
    assert await kept(database) == [("already_signed", "waiting", "smtp-connection-lost", 2)]
    ((first,),) = await run(database, "SELECT first_failed_at FROM mail_failures")
    assert first.year > 2020


async def test_what_is_given_up_keeps_its_last_reason(sign: Sign, source: SignatureMails, database: Database) -> None:
    await sign()
    for _ in range(5):
        await try_once(source, database, SendResult(Outcome.UNKNOWN, "smtp-connection-lost"))
    await make_due(database)
    with capture_logs() as logs:
        assert (await source.claim(10)).mails == []
    assert await kept(database) == [("confirm_signature", "failed", "smtp-connection-lost", 5)]
    (given_up,) = logs
    assert (given_up["event"], given_up["reason"], given_up["attempt"]) == ("mail given up", "too-many-sendings", 5)


async def test_a_mail_that_is_too_old_to_be_tried_again_has_failed(
    sign: Sign, source: SignatureMails, database: Database
) -> None:
    await sign()
    await run(database, "UPDATE signatures SET mail_since = now() - interval '31 days'")
    await try_once(source, database, SendResult(Outcome.LATER, "smtp-timeout"))
    assert await kept(database) == [("confirm_signature", "failed", "smtp-timeout", 1)]


async def test_a_mail_that_is_given_back_when_it_is_too_old_has_expired(
    sign: Sign, source: SignatureMails, database: Database
) -> None:
    await sign()
    await run(database, "UPDATE signatures SET mail_since = now() - interval '31 days'")
    await try_once(source, database, SendResult(Outcome.LATER))
    assert await kept(database) == [("confirm_signature", "failed", "expired", 1)]


async def test_to_settle_again_changes_nothing(sign: Sign, source: SignatureMails, database: Database) -> None:
    """As the sender does when it has not heard whether the first time was committed."""
    await sign()
    await try_once(source, database, SendResult(Outcome.LATER, "smtp-timeout"))
    await run(database, "UPDATE signatures SET mail_since = now() - interval '31 days'")
    await make_due(database)
    (claimed,) = (await source.claim(10)).mails
    results = [Result(claimed, Outcome.UNKNOWN, "smtp-connection-lost")]
    assert await source.settle(results) == [True]
    before = await run(database, "SELECT * FROM mail_failures")
    await source.settle(results)
    assert await run(database, "SELECT * FROM mail_failures") == before
    assert await kept(database) == [("confirm_signature", "failed", "smtp-connection-lost", 1)]


async def test_what_was_confirmed_while_its_mail_was_on_its_way_has_not_failed(
    sign: Sign, source: SignatureMails, database: Database
) -> None:
    await sign()
    (claimed,) = (await source.claim(10)).mails
    await run(database, "UPDATE signatures SET mail_due_at = NULL, mail_since = NULL, due_mail = NULL")
    for end in (Outcome.UNKNOWN, Outcome.UNREADABLE):
        await source.settle([Result(claimed, end, "smtp-connection-lost")])
    assert await kept(database) == []


@pytest.mark.parametrize(("state", "left"), [("waiting", []), ("failed", ["failed"])])
async def test_a_sixth_mail_is_not_needed_and_no_failure(
    sign: Sign, source: SignatureMails, database: Database, state: str, left: list[str]
) -> None:
    """Five were sent: nobody is sent more. That an earlier one was refused stays on record."""
    await sign()
    ((id_,),) = await run(database, "UPDATE signatures SET mail_count = 5 RETURNING id")
    with capture_logs() as logs:
        assert await source.claim(10) == ([], 1)
    assert [(log["event"], log["log_level"], log["attempt"]) for log in logs] == [("mail not needed", "info", 5)]
    assert await kept(database) == []
    earlier = {"source": "signatures", "kind": "confirm_signature", "mail_id": id_, "state": state, "reason": "x"}
    await run(database, _PUT, **earlier, first=FIRST, last=LAST)
    again = "UPDATE signatures SET due_mail = 'already_signed', mail_due_at = now(), mail_since = now()"
    await run(database, again)
    assert await source.claim(10) == ([], 1)
    assert [row[1] for row in await kept(database)] == left


async def test_a_mail_that_nobody_tried_in_its_last_attempt_has_failed(
    sign: Sign, source: SignatureMails, database: Database
) -> None:
    """Each worker that claimed it was killed."""
    await sign()
    for _ in range(5):
        await make_due(database)
        assert len((await source.claim(10)).mails) == 1
    await make_due(database)
    assert (await source.claim(10)).mails == []
    assert await kept(database) == [("confirm_signature", "failed", "too-many-sendings", 5)]


async def test_what_another_version_has_written_has_a_reason_of_its_own(
    sign: Sign, source: SignatureMails, database: Database, settings: Settings
) -> None:
    await sign()
    ((petition_id, signer),) = await run(database, "SELECT petition_id, signer FROM signatures")
    # The same key and identity, but no record that this version knows.
    sealed = settings.key_ring.seal(b"{", identity(petition_id, signer))
    await run(database, "UPDATE signatures SET sealed = :sealed", sealed=sealed)
    (claimed,) = (await source.claim(10)).mails
    assert claimed.unsent == SendResult(Outcome.UNREADABLE, "record-unknown")
    assert "version" in advice_on("record-unknown")


async def test_rows_that_cannot_be_read_cost_no_other_row_a_sending(
    sign: Sign, database: Database, settings: Settings
) -> None:
    """More of them than a connection has patience for, and in front of the others."""
    await sign(40)
    await run(
        database,
        "UPDATE signatures SET sealed = '\\x00', mail_due_at = mail_due_at - interval '1 hour',"
        " mail_since = mail_since - interval '1 hour' WHERE id IN (SELECT id FROM signatures ORDER BY id LIMIT 35)",
    )
    with SmtpServer() as mailbox, capture_logs() as logs:
        async with running_worker(settings, smtp_url=SecretStr(mailbox.url), mail_connections=2):
            await mailbox.arrived(5)
            async with asyncio.timeout(60):
                while len(await kept(database)) < 35:
                    continue
    assert await kept(database) == [("confirm_signature", "waiting", "unreadable", 1)] * 35
    rows = await run(database, "SELECT due_mail IS NULL, mail_count, count(*) FROM signatures GROUP BY 1, 2 ORDER BY 1")
    assert [tuple(row) for row in rows] == [(False, 1, 35), (True, 1, 5)]
    unreadable = [log for log in logs if log["event"] == "mail failed"]
    assert len({log["id"] for log in unreadable}) == len(unreadable) == 35
    assert {(log["reason"], log["error"].rpartition(".")[2]) for log in unreadable} == {
        ("unreadable", "SealBrokenError")
    }
    assert not [log for log in logs if log["event"] == "dispatching failed"]


@pytest.mark.parametrize(
    ("result", "young", "old"),
    [
        (SendResult(Outcome.REFUSED, "smtp-refused-recipient-550"), "29 days", "31 days"),
        # Longer than any source waits between two attempts: its mail is not due any more.
        (SendResult(Outcome.LATER, "smtp-timeout"), "6 hours", "8 hours"),
    ],
)
async def test_old_failures_are_forgotten(
    sign: Sign, source: SignatureMails, database: Database, result: SendResult, young: str, old: str
) -> None:
    await sign()
    await try_once(source, database, result)
    for age, left in ((young, 1), (old, 0)):
        await run(database, f"UPDATE mail_failures SET last_failed_at = now() - interval '{age}'")
        async with database.transaction() as session:
            await forget_mail_failures(session)
        assert len(await kept(database)) == left


_PUT = """
    INSERT INTO mail_failures (source, mail_id, kind, state, reason, attempt, first_failed_at, last_failed_at)
    VALUES (:source, :mail_id, :kind, :state, :reason, 1, :first, :last)
"""
FIRST, LAST = datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
async def failures(database: Database) -> None:
    """Three mails that wait, and one that was refused."""
    groups = [
        ("people", "welcome", "waiting", "smtp-auth-failed"),
        ("people", "welcome", "waiting", "smtp-auth-failed"),
        ("people", "welcome", "waiting", "smtp-timeout"),
        ("signatures", "confirm_signature", "failed", "smtp-refused-recipient-550"),
    ]
    for number, (source, kind, state, reason) in enumerate(groups):
        values = {"source": source, "kind": kind, "state": state, "reason": reason, "mail_id": UUID(int=number)}
        first = FIRST if number else LAST
        await run(database, _PUT, **values, first=first, last=LAST)


async def ask(client: httpx.AsyncClient, headers: dict[str, str], **params: str | int) -> Json:
    answer = await client.get(AT, headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    told: Json = answer.json()
    return told


async def test_staff_read_counts_by_reason_and_what_to_do(
    client: httpx.AsyncClient, data_officer: dict[str, str], failures: None
) -> None:
    told = await ask(client, data_officer)
    assert told["next_cursor"] is None
    assert [(one["kind"], one["state"], one["reason"], one["mail_count"]) for one in told["items"]] == [
        ("welcome", "waiting", "smtp-auth-failed", 2),
        ("welcome", "waiting", "smtp-timeout", 1),
        ("confirm_signature", "failed", "smtp-refused-recipient-550", 1),
    ]
    first = told["items"][0]
    assert (first["source"], first["first_failed_at"]) == ("people", "2026-11-20T00:00:00Z")
    assert first["last_failed_at"] == "2026-11-21T00:00:00Z"
    assert "SMTP_URL" in first["advice"]
    assert told["items"][2]["advice"] is None


async def test_the_list_is_turned_page_by_page_and_can_be_of_one_state(
    client: httpx.AsyncClient, owner: dict[str, str], failures: None
) -> None:
    reasons, cursor = [], ""
    while True:
        told = await ask(client, owner, limit=1, **({"cursor": cursor} if cursor else {}))
        reasons += [one["reason"] for one in told["items"]]
        cursor = told["next_cursor"]
        if cursor is None:
            break
    assert reasons == ["smtp-auth-failed", "smtp-timeout", "smtp-refused-recipient-550"]
    failed = await ask(client, owner, state="failed")
    assert [one["reason"] for one in failed["items"]] == ["smtp-refused-recipient-550"]


@pytest.mark.parametrize("cursor", ["", "x", "YQ", "YQpiCmMKZAAA", "____"])
async def test_a_cursor_of_nobodys_is_refused(client: httpx.AsyncClient, owner: dict[str, str], cursor: str) -> None:
    answer = await client.get(AT, headers=owner, params={"cursor": cursor})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:multitude:problem:unknown-cursor")


@pytest.mark.parametrize("role", ["campaigner", "analyst"])
async def test_other_staff_do_not_read_it(
    client: httpx.AsyncClient, role: str, request: pytest.FixtureRequest, make_key: Callable[..., Awaitable[Any]]
) -> None:
    assert (await client.get(AT, headers=await make_key(role))).status_code == 403
