"""The outbox: mails kept as files for their owner alone, and a page that only a browser on this machine is shown."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.kit.database.session import Database
from app.kit.mail.file_transport import FileTransport, file_name, list_mails, read_mail
from app.kit.mail.message import Mail, Sender
from app.kit.mail.outcome import SENT, Outcome
from app.kit.mail.preview_page import router
from app.kit.problems import OperatorError
from app.kit.room_interface import Services
from app.kit.web import errors, middleware
from app.settings import Settings

SENDER = Sender.parse("no-reply@localhost")
LINK = "https://movement.example/confirm?a=1&b=2"


def a_mail(number: int = 1, **more: str) -> Mail:
    given = {
        "recipient": f"person.{number}@example.org",
        "subject": f"Größe {number}",
        "text": f"Open {LINK}\nor https://movement.example/help",
        "html": f'<p dir="rtl">شكرًا <a href="{LINK.replace("&", "&amp;")}">go</a><script>alert(1)</script></p>',
        "message_id": f"<{number}@movement.example>",
        "locale": "ar",
        **more,
    }
    return Mail(**given)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "outbox"


@pytest.fixture
def outbox(folder: Path) -> FileTransport:
    return FileTransport.open(folder, SENDER)


async def test_a_mail_is_kept_for_its_owner_alone(outbox: FileTransport, folder: Path) -> None:
    before = os.umask(0)
    try:
        assert await outbox.send(a_mail()) == SENT
    finally:
        os.umask(before)
    (file,) = folder.iterdir()
    assert file.name == "1@movement.example.eml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_a_mail_sent_again_is_kept_once(outbox: FileTransport, folder: Path) -> None:
    for _ in range(3):
        await outbox.send(a_mail())
    assert len(list(folder.iterdir())) == 1


async def test_what_is_kept_can_be_read_back(outbox: FileTransport, folder: Path) -> None:
    for number in (1, 2, 3):
        await outbox.send(a_mail(number))
        os.utime(folder / f"{number}@movement.example.eml", (number, number))
    assert [(mail.id, mail.to, mail.subject) for mail in list_mails(folder)] == [
        (f"{number}@movement.example", f"person.{number}@example.org", f"Größe {number}") for number in (3, 2, 1)
    ]
    assert [mail.id for mail in list_mails(folder, 1)] == ["3@movement.example"]
    parsed = read_mail(folder, "2@movement.example")
    assert parsed is not None
    assert parsed.stored in list_mails(folder)
    assert parsed.text.split()[:2] == ["Open", LINK]
    assert parsed.html.startswith('<p dir="rtl">شكرًا')
    assert parsed.links == [LINK, "https://movement.example/help"]


@pytest.mark.parametrize(
    "name", ["none", "", ".", "..", "../secret", "../outbox/1@movement.example", "a\x00b", "x" * 999]
)
async def test_nothing_outside_the_outbox_is_read(outbox: FileTransport, folder: Path, name: str) -> None:
    await outbox.send(a_mail())
    (folder.parent / "secret.eml").write_text("To: x\n\n")
    assert read_mail(folder, name) is None


async def test_a_link_to_a_file_elsewhere_is_not_followed(outbox: FileTransport, folder: Path) -> None:
    await outbox.send(a_mail())
    (folder.parent / "secret.txt").write_text("To: x\n\nsecret")
    (folder / "secret.eml").symlink_to(folder.parent / "secret.txt")
    assert read_mail(folder, "secret") is None
    assert len(list_mails(folder)) == 1


def test_every_message_id_has_a_file_of_its_own() -> None:
    ids = ["<a/b@c>", "<a_b@c>", "<a%b@c>", "<.a@c>", "<../a@c>", f"<{'a' * 300}@c>", f"<{'a' * 301}@c>", "<a+b@c>"]
    names = [file_name(message_id) for message_id in ids]
    assert len(set(names)) == len(ids)
    assert not [name for name in names if "/" in name or name.startswith(".") or len(name) > 200]


def test_a_folder_others_can_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(OperatorError, match="chmod 700"):
        FileTransport.open(tmp_path, SENDER)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match="cannot be made"):
        FileTransport.open(tmp_path / "file" / "outbox", SENDER)


async def test_what_cannot_be_written_is_worth_another_try(outbox: FileTransport, folder: Path) -> None:
    folder.rmdir()
    assert await outbox.send(a_mail()) == (Outcome.LATER, "outbox-unwritable")
    assert await outbox.check() == "outbox-unwritable"
    folder.mkdir(mode=0o700)
    assert await outbox.check() is None
    assert await outbox.send(a_mail()) == SENT


def test_an_outbox_nothing_was_sent_to_is_empty(tmp_path: Path) -> None:
    assert list_mails(tmp_path / "nowhere") == []


def a_client(
    folder: Path | None, client: str = "127.0.0.1", host: str = "localhost:8000", **more: str
) -> httpx.AsyncClient:
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    chosen = {"database_url": "postgresql://nobody@nowhere/none", "outbox_dir": folder, **more}
    settings = Settings.model_validate(chosen)
    api.state.services = Services(settings, Database(settings.database_url.get_secret_value()))
    errors.install_error_handlers(api)
    api.include_router(router)
    transport = httpx.ASGITransport(app=middleware.RequestMiddleware(api), client=(client, 1))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


@pytest.fixture
async def here(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with a_client(folder) as client:
        yield client


async def test_the_page_lists_mails_and_shows_one(outbox: FileTransport, here: httpx.AsyncClient) -> None:
    assert "Nothing yet" in (await here.get("/outbox")).text
    await outbox.send(a_mail())
    listed = await here.get("/outbox")
    assert listed.status_code == 200
    assert "person.1@example.org" in listed.text
    assert '<a href="/outbox/1%40movement.example">Größe 1</a>' in listed.text
    shown = await here.get("/outbox/1%40movement.example")
    assert shown.status_code == 200
    assert f'<a href="{LINK.replace("&", "&amp;")}"' in shown.text
    for answer in (listed, shown):
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"


async def test_a_mail_on_the_page_is_shown_and_not_run(outbox: FileTransport, here: httpx.AsyncClient) -> None:
    evil = '<a href="javascript:alert(2)">x</a><script>alert(1)</script>"><script>alert(3)</script>'
    await outbox.send(a_mail(subject="<script>alert(4)</script>", html=evil, text="<script>alert(5)</script>"))
    for path in ("/outbox", "/outbox/1@movement.example"):
        page = (await here.get(path)).text
        assert "<script" not in page
        assert 'href="javascript:' not in page
    assert '<iframe title="HTML" sandbox srcdoc="' in page


@pytest.mark.parametrize("path", ["/outbox", "/outbox/1@movement.example"])
@pytest.mark.parametrize(
    ("client", "host", "headers"),
    [
        ("192.0.2.7", "localhost", {}),
        ("127.0.0.1", "movement.example", {}),
        ("127.0.0.1", "localhost.movement.example", {}),
        ("127.0.0.1", "localhost", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", "localhost", {"forwarded": "for=192.0.2.7"}),
        ("somebody", "localhost", {}),
    ],
)
async def test_nobody_elsewhere_is_shown_a_mail(
    outbox: FileTransport, folder: Path, path: str, client: str, host: str, headers: dict[str, str]
) -> None:
    await outbox.send(a_mail())
    async with a_client(folder, client, host) as elsewhere:
        answer = await elsewhere.get(path, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:multitude:problem:not-found")


@pytest.mark.parametrize("path", ["/outbox", "/outbox/1@movement.example"])
@pytest.mark.parametrize(
    "more",
    [
        {"public_url": "https://movement.example"},
        {"public_url": "http://192.0.2.7:8000"},
        {"public_url": "http://localhost.movement.example"},
        {"smtp_url": "smtp://127.0.0.1:25"},
    ],
)
async def test_a_service_for_others_shows_no_mail_to_a_proxy_that_does_not_say_it_is_one(
    outbox: FileTransport, folder: Path, path: str, more: dict[str, str]
) -> None:
    await outbox.send(a_mail())
    async with a_client(folder, **more) as proxy:
        assert (await proxy.get(path)).status_code == 404


@pytest.mark.parametrize("public_url", ["http://localhost:8000/", "http://127.0.0.2", "http://[::1]:8000"])
async def test_a_service_for_this_machine_alone_shows_its_mails(
    outbox: FileTransport, folder: Path, public_url: str
) -> None:
    async with a_client(folder, public_url=public_url) as near:
        assert (await near.get("/outbox")).status_code == 200


@pytest.mark.parametrize(("client", "host"), [("127.0.0.1", "127.0.0.1:8000"), ("::1", "[::1]:8000")])
async def test_whoever_sits_at_this_machine_is_shown_mails(
    outbox: FileTransport, folder: Path, client: str, host: str
) -> None:
    async with a_client(folder, client, host) as near:
        assert (await near.get("/outbox")).status_code == 200


async def test_without_an_outbox_there_is_no_page(outbox: FileTransport) -> None:
    async with a_client(None) as client:
        answer = await client.get("/outbox")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:multitude:problem:not-found")


@pytest.mark.parametrize("name", ["none", "..%2fsecret", "%2e%2e%2fsecret", "a%0d%0ab", "%ff"])
async def test_a_mail_that_is_not_there_is_not_found(here: httpx.AsyncClient, name: str) -> None:
    assert (await here.get(f"/outbox/{name}")).status_code == 404
