"""Two worlds that differ in one person, and all that can be seen of one: answers, mails, metrics, log lines.

What is random by nature is left out by its kind and kept by its length: ids, times, sealed tokens, draws of digests.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.registry import REGISTRY
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.application import running_worker, serving
from tests.support.databases import wait_until
from tests.support.settings import settings_for
from tests.support.smtp import SmtpServer

# Nothing is left for the worker: no mail, but for those that a limit has put off by an hour, and no consent.
_IDLE = """
    SELECT NOT EXISTS (SELECT FROM signatures WHERE mail_due_at < now() + interval '30 minutes'
            OR consents_due AND state = 'confirmed' AND (proven OR partner_id IS NOT NULL))
    AND NOT EXISTS (SELECT FROM signature_attempts WHERE mail_due_at < now() + interval '30 minutes')
    AND NOT EXISTS (SELECT FROM mails WHERE due_at < now() + interval '30 minutes')
"""
_RANDOM = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r'"[0-9a-f]{32}"'), "<digest>"),
    (re.compile(r'"[0-9a-f]{16}"'), "<request>"),
    (re.compile(r"mtd_(\w+?)_[\w-]{40,}"), "<key>"),
]
_TOKEN = re.compile(r"[\w-]{40,}")
# What a metric counts is compared; not how long it took, what the interpreter does, or into how many commits the
# worker puts what it has sent: that is a matter of moments.
_COUNTS = re.compile(r"^multitude_(?!commit_seconds|batch_size)\w+(_total|_count)$")
# Of a request: made anew each time. Of a log line: how long it took.
_VARYING = ("x-request-id", "date")
_SECONDS = ("seconds", "id", "request_id")


@dataclass
class World:
    """One running service over a database of its own, and what was seen of it since the last `begin`."""

    settings: Settings
    client: httpx.AsyncClient
    database: Database
    mailbox: SmtpServer
    answers: list[str] = field(default_factory=list)
    logs: list[Any] = field(default_factory=list)
    _since: tuple[Counter[str], int, int] = (Counter(), 0, 0)

    async def ask(self, method: str, url: str, **more: Any) -> httpx.Response:
        """One request, and its answer written down."""
        answer = await self.client.request(method, url, **more)
        headers = sorted((name, normal(value)) for name, value in answer.headers.items() if name not in _VARYING)
        self.answers.append(f"{method} {normal(url)}: {answer.status_code} {headers} {normal(answer.text)}")
        return answer

    async def settle(self) -> None:
        """Wait until the worker has nothing left to do, and has said so."""
        await wait_until(self.database, _IDLE, 30)
        async with asyncio.timeout(30):
            # The line comes after the row is settled, in this very loop.
            while sum(line["event"] == "mail sent" for line in self.logs) < len(self.mailbox.mails):  # noqa: ASYNC110
                await asyncio.sleep(0)

    async def begin(self) -> None:
        """From now on all is noted."""
        await self.settle()
        self.answers.clear()
        self._since = (_metrics(), len(self.mailbox.mails), len(self.logs))

    async def seen(self) -> dict[str, list[str]]:
        """All that was to be seen since `begin`, by kind, in an order that tells nothing of timing."""
        await self.settle()
        metrics, mails, logs = self._since
        return {
            "answers": list(self.answers),
            "mails": sorted(_mail(mail) for mail in self.mailbox.mails[mails:]),
            "metrics": sorted(f"{name} {value}" for name, value in (_metrics() - metrics).items()),
            "logs": _lines(self.logs[logs:]),
        }


@asynccontextmanager
async def world(url: str) -> AsyncIterator[World]:
    """A service with its worker and a mail server, over the database at this address."""
    database = Database(url, name="test")
    try:
        with SmtpServer() as mailbox, capture_logs() as logs:
            settings = settings_for(url)
            async with running_worker(settings, smtp_url=SecretStr(mailbox.url)), serving(settings) as served:
                yield World(settings, served.client, database, mailbox, logs=logs)
    finally:
        await database.close()


def normal(text: str) -> str:
    """The text without what is random in it, each token by its length."""
    for pattern, name in _RANDOM:
        text = pattern.sub(name, text)
    return _TOKEN.sub(lambda found: f"<{len(found[0])} letters>", text)


def _mail(mail: Any) -> str:
    return f"{mail.recipient} {len(mail.raw)} bytes {normal(mail.subject)}: {normal(mail.text)}"


def _metrics() -> Counter[str]:
    return Counter(
        {
            f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": int(sample.value)
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if _COUNTS.match(sample.name)
        }
    )


def _lines(logs: list[Any]) -> list[str]:
    """Log lines, those of sweeps added up: how much one round finds is a matter of moments."""
    swept: Counter[str] = Counter()
    lines = []
    for line in logs:
        if line["event"] == "swept":
            swept[line["sweep"]] += line["changed"]
        else:
            told = {name: value for name, value in line.items() if name not in _SECONDS}
            lines.append(normal(json.dumps(told, sort_keys=True, default=str)))
    return sorted([*lines, *(f"swept {name}: {changed}" for name, changed in swept.items())])
