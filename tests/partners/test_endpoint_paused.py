"""An endpoint that keeps failing is paused, and whoever is named for it is told, once."""

from typing import Any
from uuid import UUID

import httpx
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.kit.database.session import Database
from app.kit.mail.outcome import Outcome
from app.kit.mail.sender import Result
from app.partners.outbound.endpoints.paused_mail import EndpointMails
from app.settings import Settings
from tests.support.application import running_worker
from tests.support.databases import run, wait_until
from tests.support.people_mails import TEMPLATES
from tests.support.smtp import SmtpServer
from tests.support.time_travel import make_messages_due
from tests.support.webhooks import http_response, insert_endpoint, insert_messages, receiving

URL = "/v1/organizations/movement/webhook-endpoints"
PAUSED = "SELECT bool_and(state = 'paused') FROM webhook_endpoints"
TOLD = "SELECT bool_and(mail_due_at IS NULL) FROM webhook_endpoints"
LONG_AGO = "UPDATE webhook_endpoints SET failing_since = now() - interval '{}', failure_count = {}"


async def failing(database: Database, settings: Settings, url: str, **more: Any) -> UUID:
    """An endpoint with a message that waits for it."""
    endpoint_id = await insert_endpoint(database, settings, url, **more)
    await insert_messages(database, endpoint_id, 2, "person.erased")
    return endpoint_id


async def attempted(database: Database, count: int) -> None:
    await wait_until(database, f"SELECT count(*) >= {count} FROM delivery_attempts")


async def test_an_endpoint_at_which_nothing_was_taken_for_a_day_is_paused_and_its_contact_told_once(
    database: Database, settings: Settings, client: httpx.AsyncClient, owner: dict[str, str]
) -> None:
    more = {"contact": "ops@example.org", "contact_locale": "fr", "label": "our CRM"}
    with SmtpServer() as mailbox:
        async with (
            receiving(lambda _received: http_response(500)) as receiver,
            running_worker(settings.model_copy(update={"smtp_url": SecretStr(mailbox.url)}), mail_connections=1),
        ):
            endpoint_id = await failing(database, settings, receiver.url(), **more)
            await attempted(database, 1)
            # Neither a day with few failures nor many failures within a day.
            for since, count in (("25 hours", 2), ("23 hours", 50)):
                tried = len(receiver.received)
                await run(database, LONG_AGO.format(since, count))
                await make_messages_due(database)
                await attempted(database, tried + 1)
                assert not (await run(database, PAUSED))[0][0]
            await run(database, LONG_AGO.format("25 hours", 20))
            await make_messages_due(database)
            await wait_until(database, PAUSED)
            await mailbox.arrived(1, 20)
            await wait_until(database, TOLD)
            (mail,) = mailbox.mails
            assert mail.subject == "Les messages vers l\u2019un de vos systèmes sont suspendus"
            assert str(endpoint_id) in mail.text
            assert "our CRM" in mail.text
            assert receiver.url() not in mail.text + mail.html
            shown = (await client.get(f"{URL}/{endpoint_id}", headers=owner)).json()
            assert (shown["state"], shown["state_reason"]) == ("paused", "failing")
            await make_messages_due(database)
            tried = len(receiver.received)
            # What waits is sent when it is activated, and told anew when it is paused anew.
            receiver.say = lambda _received: http_response(204)
            again = await client.patch(f"{URL}/{endpoint_id}", json={"state": "active"}, headers=owner)
            assert again.json()["state"] == "active"
            await wait_until(database, "SELECT bool_and(state = 'delivered') FROM webhook_messages")
            assert len(receiver.received) == tried + 2
            assert mailbox.counts() == {"ops@example.org": 1}


async def test_who_activates_an_endpoint_need_not_be_told_and_no_mail_has_failed(
    database: Database, settings: Settings
) -> None:
    paused = "UPDATE webhook_endpoints SET state = 'paused', mail_due_at = now(), mail_count = 0"
    source = EndpointMails(database, settings, TEMPLATES)
    await insert_endpoint(database, settings, "https://hooks.example.org/", contact="ops@example.org")
    await run(database, paused)
    (claimed,) = (await source.claim(10)).mails
    await source.settle([Result(claimed, Outcome.LATER, "smtp-timeout")])
    assert len(await run(database, "SELECT 1 FROM mail_failures")) == 1
    # Activated without this version's knowledge, and due.
    await run(database, "UPDATE webhook_endpoints SET state = 'active', mail_due_at = now()")
    with capture_logs() as logs:
        assert await source.claim(10) == ([], 1)
    assert [(log["event"], log["log_level"]) for log in logs] == [("mail not needed", "info")]
    assert await run(database, "SELECT 1 FROM mail_failures") == []
    await run(database, paused)
    (claimed,) = (await source.claim(10)).mails
    await run(database, "UPDATE webhook_endpoints SET state = 'active', mail_due_at = NULL")
    for end in (Outcome.LATER, Outcome.UNREADABLE):
        await source.settle([Result(claimed, end, "smtp-timeout")])
    assert await run(database, "SELECT 1 FROM mail_failures") == []
    assert [tuple(row) for row in await run(database, "SELECT mail_due_at FROM webhook_endpoints")] == [(None,)]


async def test_nobody_is_told_where_nobody_is_named(database: Database, settings: Settings) -> None:
    with SmtpServer() as mailbox:
        async with (
            receiving(lambda _received: http_response(500)) as receiver,
            running_worker(settings.model_copy(update={"smtp_url": SecretStr(mailbox.url)})),
        ):
            await failing(database, settings, receiver.url())
            await attempted(database, 1)
            await run(database, LONG_AGO.format("25 hours", 20))
            await make_messages_due(database)
            await wait_until(database, PAUSED)
            await wait_until(database, TOLD)
        assert mailbox.counts() == {}
