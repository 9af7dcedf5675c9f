"""A worker that is killed while it sends: everybody gets their mail, and hardly anybody twice."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from movement import like, plant, run, until
from postbox import Mailbox
from services import ROOT, environment, kill_tree

from app.kit.database.session import Database
from app.settings import Settings
from app.signatures import service
from app.signatures.schemas import SigningBody
from app.signatures.services import SigningServices

SIGNERS = 300
CONNECTIONS = 4
_DUE = "SELECT count(*) = 0 FROM signatures WHERE due_mail IS NOT NULL"


@contextmanager
def worker(settings: Settings, mailbox: Mailbox) -> Iterator[int]:
    """A worker of its own process; its id."""
    known = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "MULTITUDE_SECRET_KEYS": settings.secret_keys.get_secret_value(),
        "MULTITUDE_MAIL_CONNECTIONS": str(CONNECTIONS),
        "SMTP_URL": mailbox.url,
    }
    command = [sys.executable, "-m", "app.cli", "worker"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(**known), stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        kill_tree(process.pid)
        process.wait(10)


async def test_everybody_gets_one_mail_though_the_worker_is_killed_twice(
    database: Database, rooms: list[SigningServices], settings: Settings
) -> None:
    await plant(database, confirmation="email")
    bodies = [SigningBody.model_validate(body) for body in like(SIGNERS)]
    await asyncio.gather(*(service.sign(rooms[0], "end-the-ban", body) for body in bodies))
    kills = 0
    with Mailbox() as mailbox:
        for sent in (40, 120):
            with worker(settings, mailbox) as pid:
                await mailbox.arrived(sent, 60)
                kill_tree(pid)
            kills += 1
            # The lease of what was claimed is over, as it would be in ten minutes.
            await run(database, "UPDATE signatures SET mail_due_at = now() WHERE due_mail IS NOT NULL")
        with worker(settings, mailbox):
            await until(database, _DUE, 60)
        counts = mailbox.counts()
    assert set(counts) == {f"person.{number}@example.org" for number in range(SIGNERS)}
    twice = [address for address, count in counts.items() if count > 1]
    assert len(twice) <= kills * CONNECTIONS
    assert max(counts.values()) <= 1 + kills
    rows = await run(database, "SELECT max(mail_count) FROM signatures")
    assert rows[0][0] <= 1 + kills
