"""`multitude doctor` says what is wrong and what to do, and a wrong password for the mail server is seen everywhere."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY, generate_latest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.kit.crypto.sealing import KeyRing
from app.kit.database.schema_version import head
from app.kit.database.session import Database
from app.settings import Settings
from tests.support.application import running_worker
from tests.support.databases import run, wait_until
from tests.support.factories import insert_petition, person
from tests.support.services import command
from tests.support.settings import SECRET_KEYS
from tests.support.smtp import SmtpServer

pytestmark = pytest.mark.process


Json = dict[str, Any]
WRONG = "a-wrong-password"


@pytest.fixture
def mailbox() -> Iterator[SmtpServer]:
    """A real mail server that lets nobody in without the password."""
    with SmtpServer(login=("movement", "the-right-password")) as mailbox:
        yield mailbox


@pytest.fixture
def known(settings: Settings) -> dict[str, str]:
    """The environment that the command reads."""
    return {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "MULTITUDE_SECRET_KEYS": "wNqT4yq0yO3nF1bGm8cZ2vK7xU5hR9sE",
        "MULTITUDE_DIGEST_KEY": SECRET_KEYS,
        "MULTITUDE_TOKEN_KEYS": "Yq3bW8sKx0Zr5Nf7Lm2Tc9Hd4Vj6Pg1A",
        "PUBLIC_URL": "https://movement.example",
        "MULTITUDE_ALERT_ADDRESSES": "trust@example.org",
    }


async def examine(known: dict[str, str], **more: str) -> tuple[int, dict[str, list[Json]]]:
    """The exit status, and what was found, by check."""
    done = await asyncio.to_thread(command, "doctor", "--json", **known, **more)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    found: dict[str, list[Json]] = {}
    for check in told["checks"]:
        found.setdefault(check["check"], []).append(check)
    assert told["healthy"] is (done.returncode == 0)
    assert WRONG not in done.stdout
    return done.returncode, found


def status_of(found: dict[str, list[Json]]) -> dict[str, str]:
    return {name: checks[0]["status"] for name, checks in found.items()}


async def test_when_nothing_is_missing_all_is_well(
    known: dict[str, str], mailbox: SmtpServer, client: object, owner: dict[str, str]
) -> None:
    status, found = await examine(known, SMTP_URL=mailbox.url)
    assert (status, set(status_of(found).values())) == (0, {"ok"})
    assert set(found) == {
        "database",
        "schema",
        "mail",
        "alerts",
        "keys",
        "separate keys",
        "seals: row",
        "seals: token",
        "API keys",
        "mail failures",
        "sweeps",
        "due: notices' mails",
        "due: pending_acts",
        "due: apply_scheduled_transitions",
        "due: signatures' mails",
        "due: consents",
        "due: runner",
        "due: people's mails",
        "due: endpoints' mails",
        "due: fan_out",
        "due: webhooks",
    }
    assert mailbox.mails == []


async def test_a_wrong_password_is_seen_in_the_log_the_metrics_and_by_the_doctor(
    known: dict[str, str], mailbox: SmtpServer, client: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    await insert_petition(database, confirmation="email")
    url = mailbox.url.replace("the-right-password", WRONG)
    assert WRONG in url
    assert (await client.post("/v1/petitions/end-the-ban/signatures", json=person(1))).status_code == 201
    with capture_logs() as logs:
        async with asyncio.timeout(60), running_worker(settings, smtp_url=SecretStr(url)):
            await wait_until(database, "SELECT count(*) = 1 FROM mail_failures WHERE reason = 'smtp-auth-failed'")
            # A line is written after the commit that it tells of.
            while len([log for log in logs if log["event"] == "mail failed"]) < 2:
                await run(database, "SELECT 1")
    (failed,) = [log for log in logs if log["event"] == "mail failed" and log["source"] == "signatures"]
    assert (failed["log_level"], failed["kind"], failed["end"]) == ("warning", "confirm_signature", "later")
    assert (failed["reason"], failed["attempt"]) == ("smtp-auth-failed", 1)
    assert [log["reason"] for log in logs if log.get("source") == "check"] == ["smtp-auth-failed"]
    assert WRONG not in repr(logs)
    assert "person.1" not in repr(logs)
    shown = generate_latest(REGISTRY).decode()
    assert 'multitude_mail_failures_total{reason="smtp-auth-failed",source="signatures"}' in shown
    status, found = await examine(known, SMTP_URL=url)
    assert status == 1
    assert {name for name, told in status_of(found).items() if told == "wrong"} == {"mail", "mail failures"}
    assert found["mail"][0]["found"] == "No mail can be sent: smtp-auth-failed."
    assert "SMTP_URL" in found["mail"][0]["advice"]
    assert found["mail failures"][0]["found"] == "1 waiting, failed with smtp-auth-failed."


async def test_whatever_else_is_wrong_is_found_with_what_to_do(
    known: dict[str, str], client: object, database: Database
) -> None:
    await insert_petition(database, confirmation="email", opens_at=None, state="draft")
    await run(database, "UPDATE petitions SET opens_at = now() - interval '11 minutes'")
    await run(database, "INSERT INTO sweep_failures VALUES ('fan_out', 'refused', now(), now())")
    status, found = await examine({**known, "MULTITUDE_DIGEST_KEY": "another-secret-that-is-only-for-tests"})
    assert status == 1
    wrong = {name for name, told in status_of(found).items() if told == "wrong"}
    assert wrong == {"keys", "mail", "sweeps", "due: apply_scheduled_transitions"}
    assert all(check["advice"] for name in wrong for check in found[name])
    assert found["mail"][0]["advice"] == "Set SMTP_URL."


async def test_one_secret_for_several_purposes_is_warned_of(
    known: dict[str, str], mailbox: SmtpServer, client: object
) -> None:
    alone = {**known, "SMTP_URL": mailbox.url, "MULTITUDE_SECRET_KEYS": SECRET_KEYS}
    for left_out in ("MULTITUDE_DIGEST_KEY", "MULTITUDE_TOKEN_KEYS", ""):
        status, found = await examine({name: value for name, value in alone.items() if name != left_out})
        assert (status, found["keys"][0]["status"], found["separate keys"][0]["status"]) == (0, "ok", "warning")


@pytest.mark.parametrize(("seals", "told"), [(2**31 - 1, "ok"), (2**31, "warning"), (3 * 2**30, "wrong")])
async def test_a_key_that_has_sealed_often_is_told_before_it_is_too_late(
    known: dict[str, str], mailbox: SmtpServer, client: object, database: Database, seals: int, told: str
) -> None:
    settings = (known[f"MULTITUDE_{name}"] for name in ("SECRET_KEYS", "DIGEST_KEY", "TOKEN_KEYS"))
    ring = KeyRing.parse(*settings)
    adding = "INSERT INTO key_seals VALUES (:purpose, :id, :seals)"
    await run(database, adding, purpose="token", id=ring.token_id, seals=seals)
    await run(database, adding, purpose="row", id=b"no", seals=2**40)
    _, found = await examine({**known, "SMTP_URL": mailbox.url})
    assert (found["seals: token"][0]["status"], found["seals: row"][0]["status"]) == (told, "ok")


async def test_a_rotation_that_was_interrupted_is_told(
    known: dict[str, str], mailbox: SmtpServer, client: object, database: Database
) -> None:
    await run(database, "UPDATE digest_keys SET fingerprint = 'one>other'")
    status, found = await examine({**known, "SMTP_URL": mailbox.url})
    assert (status, found["keys"][0]["advice"]) == (1, "Run `multitude keys rotate-digest`.")


async def test_links_that_lead_nowhere_are_warned_of(
    known: dict[str, str], mailbox: SmtpServer, client: object
) -> None:
    status, found = await examine({**known, "SMTP_URL": mailbox.url, "PUBLIC_URL": "http://127.0.0.1:8000"})
    assert (status, found["links"][0]["status"]) == (0, "warning")


async def test_without_a_database_it_says_so_and_looks_at_the_rest(known: dict[str, str], tmp_path: Path) -> None:
    more = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "MULTITUDE_OUTBOX_DIR": str(tmp_path)}
    tmp_path.chmod(0o700)
    status, found = await examine({**known, **more})
    assert (status, status_of(found)) == (1, {"database": "wrong", "mail": "ok", "alerts": "ok"})


async def test_without_a_schema_it_says_how_to_make_one(known: dict[str, str], database: Database) -> None:
    await run(database, "UPDATE alembic_version SET version_num = '20261122_people'")
    try:
        status, found = await examine(known)
    finally:
        await run(database, "UPDATE alembic_version SET version_num = :head", head=head())
    assert status == 1
    assert found["schema"][0]["advice"] == "Run `multitude migrate`."
    assert "sweeps" not in found


async def test_people_are_shown_a_table(known: dict[str, str], client: object) -> None:
    done = await asyncio.to_thread(command, "doctor", **known, COLUMNS="200")
    assert done.returncode == 1
    assert "Set SMTP_URL." in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


async def test_keys_that_never_end_and_owners_that_end_soon_are_told(
    known: dict[str, str], database: Database, owner: dict[str, str], analyst: dict[str, str]
) -> None:
    _, found = await examine(known)
    assert [one["status"] for one in found["API keys"]] == ["ok"]
    await run(database, "UPDATE api_keys SET expires_at = NULL WHERE role = 'analyst'")
    await run(database, "UPDATE api_keys SET expires_at = now() + interval '29 days' WHERE role = 'owner'")
    _, found = await examine(known)
    told = [(one["status"], one["found"]) for one in found["API keys"]]
    assert told == [("warning", "1 never expire."), ("warning", "No owner's key works for another month.")]


async def test_it_warns_when_nobody_is_mailed_alerts(
    known: dict[str, str], mailbox: SmtpServer, client: object, owner: dict[str, str]
) -> None:
    status, found = await examine({**known, "MULTITUDE_ALERT_ADDRESSES": ""}, SMTP_URL=mailbox.url)
    assert (status, status_of(found)["alerts"]) == (0, "warning")
    assert "MULTITUDE_ALERT_ADDRESSES" in found["alerts"][0]["advice"]
