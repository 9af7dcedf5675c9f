"""A newcomer starts the service, pastes the sign command and sees the count move on the stream."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.services import PATIENCE, Service, command, open_folder
from tests.support.smtp import SmtpServer

pytestmark = pytest.mark.process


Lines = Iterator[str]


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def next_count(lines: Lines) -> int:
    data = next(line for line in lines if line.startswith("data: "))
    return int(json.loads(data.removeprefix("data: "))["signature_count"])


def paste(shell_command: str) -> httpx.Response:
    """Run a printed command in a shell, as it stands; its output as an answer."""
    told = subprocess.run(
        f"{shell_command} -s -w '\\n%{{http_code}}'", shell=True, capture_output=True, text=True, check=True, timeout=30
    )
    body, _, status = told.stdout.rpartition("\n")
    return httpx.Response(int(status), text=body)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed commands are for curl")
def test_a_newcomer_signs_and_sees_the_count_move(folder: Path) -> None:
    with Service("up", "--data-dir", str(folder / "data")) as service:
        service.wait_until_ready()
        block = service.output()
        assert f"running at {service.url}" in block
        assert httpx.get(f"{service.url}/docs").status_code == 200
        watch, sign_ = (line.strip() for line in block.splitlines() if line.strip().startswith("curl "))
        with httpx.stream("GET", re.findall(r"http://\S+/stream", watch)[0], timeout=30) as stream:
            lines = stream.iter_lines()
            assert next_count(lines) == 0
            answer = paste(sign_)
            assert (answer.status_code, answer.json()["status"]) == (201, "confirmed")
            assert next_count(lines) == 1
            assert paste(sign_).status_code == 201
            another = paste(sign_.replace("amina@", "another@"))
            assert next_count(lines) == 2
            _withdraw(service.url, another)
            assert next_count(lines) == 1
        _use_the_owners_key(service.url, re.findall(r"owner key\s+(\S+)", block)[0])
        assert "amina" not in service.errors().lower()
        assert service.end() == 0


def _withdraw(url: str, answer: httpx.Response) -> None:
    told = answer.json()
    withdrawn = httpx.post(f"{url}{told['links']['withdraw']}", json={"receipt": told["receipt"]})
    assert withdrawn.json() == {"status": "withdrawn"}


def _use_the_owners_key(url: str, key: str) -> None:
    at = f"{url}/v1/petitions/repeal-the-laws/tally"
    assert httpx.get(at, params={"by": "source"}).status_code == 401
    answer = httpx.get(at, params={"by": "country"}, headers={"authorization": f"Bearer {key}"})
    assert answer.json()["rows"] == [{"key": "UG", "signature_count": 1}]
    body = {"slug": "mine", "title": "My campaign", "goal": "A start"}
    assert httpx.post(f"{url}/v1/campaigns", json=body).status_code == 401
    assert httpx.post(f"{url}/v1/campaigns", json=body, headers={"authorization": f"Bearer {key}"}).status_code == 201


def test_whatever_is_tried_first_the_owners_key_is_shown(folder: Path) -> None:
    """Nothing is made before it is known that the service can listen: the key is shown once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = command("up", "--data-dir", str(folder / "data"), "--port", str(taken.getsockname()[1]))
    assert (told.returncode, "Cannot listen" in told.stderr) == (1, True)
    with Service("up", "--data-dir", str(folder / "data")) as service:
        service.wait_until_ready()
        assert "owner key" in service.output()


def test_a_service_reads_no_settings_of_another_that_lies_where_it_is_started(folder: Path) -> None:
    other = folder / ".multitude"
    other.mkdir()
    (other / "service.env").write_text(f"MULTITUDE_DIGEST_KEY={'another-service-s-digest-key-' * 2}\n")
    with SmtpServer() as mailbox:
        service = Service("up", "--data-dir", str(folder / "own"), settings={"SMTP_URL": mailbox.url})
        service.cwd = folder
        with service:
            service.wait_until_ready()
            # The worker looks at the mail server when it has started.
            until = time.monotonic() + PATIENCE
            while not mailbox.connections and "companion ended" not in service.errors():
                assert time.monotonic() < until
                time.sleep(0.05)
            assert "companion ended" not in service.errors()
