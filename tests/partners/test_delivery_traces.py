"""Each attempt at a webhook is logged once, when it is recorded: which message, which attempt, how it ended and why."""

from structlog.testing import capture_logs

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.databases import wait_until
from tests.support.time_travel import make_messages_due
from tests.support.webhooks import (
    delivering,
    http_response,
    insert_endpoint,
    insert_messages,
    receiving,
    wait_for_attempts,
)


async def test_each_attempt_is_logged_once_with_its_reason(database: Database, settings: Settings) -> None:
    async with receiving(lambda _received: http_response(500, b"amina@example.org is nobody")) as receiver:
        endpoint_id = await insert_endpoint(database, settings, receiver.url("/secret-path"))
        (message,) = await insert_messages(database, endpoint_id, 1, "person.erased")
        with capture_logs() as logs:
            async with delivering(settings):
                await wait_for_attempts(database, 1)
                receiver.say = lambda _received: http_response(204)
                await make_messages_due(database)
                await wait_until(database, "SELECT bool_and(state = 'delivered') FROM webhook_messages")
    failed, delivered = (log for log in logs if log["event"].startswith("webhook"))
    assert (failed["event"], failed["end"], failed["reason"]) == ("webhook failed", "failed", "status-500")
    assert (delivered["event"], delivered["end"], "reason" in delivered) == ("webhook delivered", "delivered", False)
    assert [(log["id"], log["endpoint_id"]) for log in (failed, delivered)] == [
        (message.removeprefix("msg_"), str(endpoint_id))
    ] * 2
    assert [log["attempt"] for log in (failed, delivered)] == [1, 2]
    assert all(0 < log["seconds"] < 20 for log in (failed, delivered))
    assert "amina" not in repr(logs)
    assert "secret-path" not in repr(logs)
