"""A worker that is killed while it delivers: nothing is lost, hardly anything comes twice, and order is kept."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from movement import run, until
from services import ROOT, environment, kill_tree

from app.kit.database.session import Database
from app.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "partners"))
from receivers import plant_endpoint, plant_messages, receiving

CONNECTIONS = 8
EACH = 150
_DELIVERED = "SELECT bool_and(state = 'delivered') FROM webhook_messages"


@contextmanager
def worker(settings: Settings) -> Iterator[int]:
    """A worker of its own process; its id."""
    known = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "MULTITUDE_SECRET_KEYS": settings.secret_keys.get_secret_value(),
        "MULTITUDE_WEBHOOK_CONNECTIONS": str(CONNECTIONS),
        "MULTITUDE_WEBHOOK_LOOPBACK": "true",
    }
    command = [sys.executable, "-m", "app.cli", "worker"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(**known), stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        kill_tree(process.pid)
        process.wait(10)


async def test_everything_is_delivered_though_the_worker_is_killed_twice(
    database: Database, settings: Settings
) -> None:
    kills = 0
    async with receiving() as receiver:
        ordered, planted = [], []
        for number, type_ in enumerate(("person.erased", "webhook.test")):
            endpoint_id = await plant_endpoint(database, settings, receiver.url(f"/{number}"))
            planted.append(await plant_messages(database, endpoint_id, EACH, type_))
        ordered = planted[0]
        for count in (60, 150):
            with worker(settings) as pid:
                await receiver.arrived(count, 60)
                kill_tree(pid)
            kills += 1
            assert not (await run(database, _DELIVERED))[0][0]
            # The holds are over, as they would be in a minute or so.
            await run(database, "UPDATE webhook_endpoints SET leased_until = now() WHERE leased_until > now()")
        with worker(settings):
            await until(database, _DELIVERED, 60)
    came = receiver.ids()
    assert set(came) == {id_ for ids in planted for id_ in ids}
    assert len(came) - len(set(came)) <= kills * CONNECTIONS
    firsts = list(dict.fromkeys(id_ for id_ in came if id_ in ordered))
    assert firsts == ordered
