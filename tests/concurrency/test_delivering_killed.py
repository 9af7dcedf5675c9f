"""A worker that is killed while it delivers: nothing is lost, hardly anything comes twice, and order is kept."""

from contextlib import AbstractContextManager

import pytest

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.commands import Running
from tests.support.databases import run, wait_until
from tests.support.services import kill_tree, worker
from tests.support.webhooks import insert_endpoint, insert_messages, receiving

pytestmark = pytest.mark.process


CONNECTIONS = 8
EACH = 150
_DELIVERED = "SELECT bool_and(state = 'delivered') FROM webhook_messages"


def started(settings: Settings) -> AbstractContextManager[Running]:
    """A worker of its own process."""
    return worker(
        DATABASE_URL=settings.database_url.get_secret_value(),
        MULTITUDE_SECRET_KEYS=settings.secret_keys.get_secret_value(),
        MULTITUDE_WEBHOOK_CONNECTIONS=str(CONNECTIONS),
        MULTITUDE_WEBHOOK_LOOPBACK="true",
    )


async def test_everything_is_delivered_though_the_worker_is_killed_twice(
    database: Database, settings: Settings
) -> None:
    kills = 0
    async with receiving() as receiver:
        ordered, planted = [], []
        for number, type_ in enumerate(("person.erased", "webhook.test")):
            endpoint_id = await insert_endpoint(database, settings, receiver.url(f"/{number}"))
            planted.append(await insert_messages(database, endpoint_id, EACH, type_))
        ordered = planted[0]
        for count in (60, 150):
            with started(settings) as process:
                await receiver.arrived(count, 60)
                kill_tree(process.pid)
            kills += 1
            assert not (await run(database, _DELIVERED))[0][0]
            # The holds are over, as they would be in a minute or so.
            await run(database, "UPDATE webhook_endpoints SET leased_until = now() WHERE leased_until > now()")
        with started(settings):
            await wait_until(database, _DELIVERED, 60)
    came = receiver.ids()
    assert set(came) == {id_ for ids in planted for id_ in ids}
    assert len(came) - len(set(came)) <= kills * CONNECTIONS
    firsts = list(dict.fromkeys(id_ for id_ in came if id_ in ordered))
    assert firsts == ordered
