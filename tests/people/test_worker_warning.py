"""What the worker says at its start of mails that would be of no use."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app import worker
from app.kit.problems import OperatorError
from app.settings import Settings

WARNING = {"event": "links in mails lead nowhere: set PUBLIC_URL", "log_level": "warning"}


@pytest.mark.parametrize(
    ("smtp_url", "public_url", "warned"),
    [
        ("smtp://127.0.0.1:25", "http://127.0.0.1:8000", 1),
        ("smtp://127.0.0.1:25", "https://movement.example", 0),
        (None, "http://127.0.0.1:8000", 0),
    ],
)
async def test_links_that_lead_nowhere_are_warned_of_once(
    settings: Settings, smtp_url: str | None, public_url: str, warned: int
) -> None:
    more = {"smtp_url": smtp_url and SecretStr(smtp_url), "public_url": public_url}
    ending = asyncio.Event()
    ending.set()
    with capture_logs() as logged:
        await worker.work(settings.model_copy(update=more), ending)
    assert logged.count(WARNING) == warned


async def test_a_folder_of_mail_texts_that_is_not_there_is_told_in_a_sentence(settings: Settings) -> None:
    more = {"smtp_url": SecretStr("smtp://127.0.0.1:25"), "mail_texts_dir": Path("/no/such/folder")}
    with pytest.raises(OperatorError):
        await worker.work(settings.model_copy(update=more), asyncio.Event())
