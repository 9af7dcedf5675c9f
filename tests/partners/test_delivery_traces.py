"""Each attempt at a webhook is logged once, when it is recorded: which message, which attempt, how it ended and why."""

from movement import until
from receivers import answer, attempted, delivering, make_due, plant_endpoint, plant_messages, receiving
from structlog.testing import capture_logs

from app.kit.database.session import Database
from app.settings import Settings


async def test_each_attempt_is_logged_once_with_its_reason(database: Database, settings: Settings) -> None:
    async with receiving(lambda _received: answer(500, b"amina@example.org is nobody")) as receiver:
        endpoint_id = await plant_endpoint(database, settings, receiver.url("/secret-path"))
        (message,) = await plant_messages(database, endpoint_id, 1, "person.erased")
        with capture_logs() as logs:
            async with delivering(settings):
                await attempted(database, 1)
                receiver.say = lambda _received: answer(204)
                await make_due(database)
                await until(database, "SELECT bool_and(state = 'delivered') FROM webhook_messages")
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
