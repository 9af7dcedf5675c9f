"""Sending over SMTP, against a server that is real and not always kind."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from app.kit.mail.message import Mail, Sender
from app.kit.mail.outcome import SENT, Outcome, SendResult
from app.kit.mail.smtp import SmtpTransport, open_transport
from app.settings import Settings
from tests.support.smtp import SmtpServer

SENDER = Sender.parse("Multitude <no-reply@movement.example>")
LATER, REFUSED, UNKNOWN = Outcome.LATER, Outcome.REFUSED, Outcome.UNKNOWN


def a_mail(number: int = 1, to: str = "amina@example.org") -> Mail:
    return Mail(to, "Hello", f"Mail {number}: https://l.example/{number}", "<p>ü</p>", f"<{number}@m.example>", "en")


@pytest.fixture
def mailbox() -> Iterator[SmtpServer]:
    with SmtpServer() as mailbox:
        yield mailbox


@asynccontextmanager
async def posting(
    url: str, connections: int = 2, timeout_seconds: float = 10, idle: float = 30
) -> AsyncIterator[SmtpTransport]:
    post = SmtpTransport(url, SENDER, connections=connections, timeout_seconds=timeout_seconds, idle_seconds=idle)
    try:
        yield post
    finally:
        await post.close()


async def test_a_mail_arrives_as_it_was_written(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url) as post:
        assert await post.send(a_mail()) == SENT
    (mail,) = await mailbox.arrived()
    assert (mail.sender, mail.recipient, mail.to) == (
        "no-reply@movement.example",
        "amina@example.org",
        "amina@example.org",
    )
    assert (mail.subject, mail.text.strip(), mail.html.strip()) == ("Hello", "Mail 1: https://l.example/1", "<p>ü</p>")
    assert mail.links == ["https://l.example/1"]
    assert mail.message["Message-ID"] == "<1@m.example>"
    assert abs(mail.message["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_line_that_is_a_single_dot_does_not_end_a_mail(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url) as post:
        await post.send(Mail("amina@example.org", "S", "one\n.\n..two", "<p>\n.\n</p>", "<1@m.example>", "en"))
    assert mailbox.mails[0].text.split() == ["one", ".", "..two"]


async def test_many_mails_share_few_connections(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url, connections=3) as post:
        deliveries = await asyncio.gather(*(post.send(a_mail(number)) for number in range(60)))
    assert deliveries == [SENT] * 60
    assert {mail.message["Message-ID"] for mail in mailbox.mails} == {f"<{number}@m.example>" for number in range(60)}
    assert len(mailbox.mails) == 60
    assert mailbox.connections == 3
    await asyncio.to_thread(mailbox.wait_until_open, 0)


async def test_a_check_opens_the_connection_that_the_first_mail_is_sent_over(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url) as post:
        assert await post.check() is None
        assert await post.send(a_mail()) == SENT
        assert mailbox.connections == 1


async def test_mails_one_after_the_other_need_one_connection(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url, connections=3) as post:
        for number in range(5):
            await post.send(a_mail(number))
        assert mailbox.connections == 1


async def test_a_connection_that_rests_too_long_is_given_back(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url, idle=0.05) as post:
        await post.send(a_mail(1))
        await asyncio.to_thread(mailbox.wait_until_open, 0)
        assert await post.send(a_mail(2)) == SENT
    assert mailbox.connections == 2


async def test_a_connection_the_server_closed_is_opened_again(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url) as post:
        await asyncio.gather(*(post.send(a_mail(number)) for number in range(2)))
        await asyncio.to_thread(mailbox.hang_up)
        assert await asyncio.gather(*(post.send(a_mail(number)) for number in range(2, 4))) == [SENT, SENT]
    assert len(mailbox.mails) == 4


@pytest.mark.parametrize("at_data", [False, True])
async def test_a_refused_recipient_is_not_tried_again_and_holds_up_nobody(mailbox: SmtpServer, at_data: bool) -> None:
    mailbox.answer("nobody@example.org", "550 5.1.1 nobody@example.org is unknown", at_data=at_data)
    async with posting(mailbox.url, connections=1) as post:
        assert await post.send(a_mail(1, "nobody@example.org")) == (REFUSED, "smtp-refused-recipient-550")
        assert await post.send(a_mail(2)) == SENT
    assert [mail.recipient for mail in mailbox.mails] == ["amina@example.org"]
    assert mailbox.connections == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("banana, says <person.1@example.org>", "smtp-protocol"),
        ("099 what?", "smtp-protocol"),
        ("451 4.3.0 amina@example.org later", "smtp-try-later-451"),
        ("421 4.3.2 closing", "smtp-try-later-421"),
        ("530 5.7.0 log in first", "smtp-auth-failed"),
        ("550 5.7.1 we do not relay for amina@example.org", "smtp-refused-us-550"),
        ("drop", "smtp-connection-lost"),
    ],
)
@pytest.mark.parametrize("connections", [1, 2])
async def test_what_fails_now_is_worth_another_try(
    mailbox: SmtpServer, answer: str, reason: str, connections: int
) -> None:
    mailbox.answer("amina@example.org", answer, times=1)
    async with posting(mailbox.url, connections) as post:
        assert await post.send(a_mail()) == (LATER, reason)
        assert mailbox.mails == []
        assert await post.send(a_mail()) == SENT
    assert [mail.message["Message-ID"] for mail in mailbox.mails] == ["<1@m.example>"]


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("452 4.3.1 full", SendResult(LATER, "smtp-try-later-452")),
        ("drop", SendResult(UNKNOWN, "smtp-connection-lost")),
    ],
)
async def test_a_mail_that_fails_at_its_end_is_worth_another_try(
    mailbox: SmtpServer, answer: str, result: SendResult
) -> None:
    mailbox.answer("amina@example.org", answer, times=2, at_data=True)
    async with posting(mailbox.url) as post:
        for _ in range(2):
            assert await post.send(a_mail()) == result
        assert await post.send(a_mail()) == SENT
    assert len(mailbox.mails) == 1


async def test_a_server_that_is_not_there_is_worth_another_try() -> None:
    with SmtpServer() as gone:
        url = gone.url
    async with posting(url) as post:
        assert await post.send(a_mail()) == (LATER, "smtp-connect-failed")
        assert await post.check() == "smtp-connect-failed"


async def test_a_server_that_says_nothing_is_given_up_on() -> None:
    leaving = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await leaving.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, posting(f"smtp://127.0.0.1:{port}", timeout_seconds=0.1) as post:
        assert await post.send(a_mail()) == (LATER, "smtp-timeout")
        leaving.set()


async def test_a_sending_that_is_broken_off_spoils_none_after_it(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url, connections=1) as post:
        for turns in range(12):
            broken_off = asyncio.create_task(post.send(a_mail(100 + turns, "broken@example.org")))
            for _ in range(turns):
                await asyncio.sleep(0)
            broken_off.cancel()
            with suppress(asyncio.CancelledError):
                await broken_off
            assert await post.send(a_mail(turns)) == SENT
        await asyncio.to_thread(mailbox.wait_until_open, 1)
    assert [mail.message["Message-ID"] for mail in mailbox.to("amina@example.org")] == [
        f"<{turns}@m.example>" for turns in range(12)
    ]


async def test_closing_finishes_what_is_on_its_way_and_takes_nothing_more(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url, connections=2) as post:
        sending = [asyncio.create_task(post.send(a_mail(number))) for number in range(20)]
        await mailbox.arrived(2)
        await post.close()
        ended = await asyncio.gather(*sending, return_exceptions=True)
        assert ended.count(SENT) == len(mailbox.mails) >= 2
        assert all(end in {SENT, SendResult(LATER, "closing")} for end in ended)
        assert await post.send(a_mail(99)) == (LATER, "closing")
    await asyncio.to_thread(mailbox.wait_until_open, 0)


async def test_names_in_any_script_go_to_servers_that_know_them(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url) as post:
        assert await post.send(a_mail(1, "أمينة@bücher.example")) == SENT
        assert await post.send(a_mail(2, "amina@bücher.example")) == SENT
    one, two = mailbox.mails
    assert (one.recipient, one.to) == ("أمينة@xn--bcher-kva.example", "أمينة@xn--bcher-kva.example")
    assert "SMTPUTF8" in one.options
    assert two.recipient == "amina@xn--bcher-kva.example"
    assert "SMTPUTF8" not in two.options


async def test_names_in_any_script_are_refused_where_no_server_knows_them() -> None:
    with SmtpServer(utf8=False) as mailbox:
        async with posting(mailbox.url, connections=1) as post:
            assert await post.send(a_mail(1, "أمينة@bücher.example")) == (REFUSED, "smtp-no-utf8")
            assert await post.send(a_mail(2, "amina@bücher.example")) == SENT
        assert [mail.recipient for mail in mailbox.mails] == ["amina@xn--bcher-kva.example"]
        assert mailbox.connections == 1


async def test_a_password_opens_the_server() -> None:
    with SmtpServer(login=("me@movement", "p/w:ü")) as mailbox:
        async with posting(mailbox.url) as post:
            assert await post.send(a_mail()) == SENT
        async with posting(mailbox.url.replace("p%2Fw", "wrong")) as post:
            assert await post.send(a_mail()) == (LATER, "smtp-auth-failed")
            assert await post.check() == "smtp-auth-failed"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody but itself vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mailbox.test")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize("scheme", ["smtp", "smtp+starttls", "smtps"])
async def test_a_server_must_prove_who_it_is(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    with SmtpServer(tls=context, from_the_start=scheme == "smtps") as mailbox:
        url = mailbox.url.replace("smtp:", f"{scheme}:")
        async with posting(url) as post:
            assert await post.send(a_mail()) == (LATER, "smtp-tls-failed")
            assert mailbox.mails == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        async with posting(url) as post:
            assert await post.send(a_mail()) == SENT


async def test_encryption_that_is_insisted_on_is_not_done_without(mailbox: SmtpServer) -> None:
    async with posting(mailbox.url.replace("smtp:", "smtp+starttls:")) as post:
        assert await post.send(a_mail()) == (LATER, "smtp-unsupported")
    assert mailbox.mails == []


def settings_with(**more: object) -> Settings:
    return Settings.model_validate({"database_url": "postgresql://nobody@nowhere/none", **more})


async def test_settings_say_which_post_is_open(mailbox: SmtpServer, tmp_path: Path) -> None:
    assert open_transport(settings_with(smtp_url=None)) is None
    assert open_transport(settings_with(smtp_url="")) is None
    outbox = tmp_path / "outbox"
    post = open_transport(settings_with(smtp_url=mailbox.url, outbox_dir=outbox, mail_from="Us <us@movement.example>"))
    assert post is not None
    assert await post.send(a_mail()) == SENT
    await post.close()
    assert mailbox.mails[0].message["From"] == "Us <us@movement.example>"
    assert not outbox.exists()


def test_settings_for_mail_go_to_other_processes_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_with(
        smtp_url="smtps://me:hidden-word@mail.example",
        mail_from="Us <us@movement.example>",
        mail_connections=3,
        outbox_dir=tmp_path,
        mail_texts_dir=None,
    )
    environment = settings.as_environment()
    assert environment["SMTP_URL"] == "smtps://me:hidden-word@mail.example"
    assert "MULTITUDE_MAIL_TEXTS_DIR" not in environment
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    again = Settings()
    for name in ("smtp_url", "mail_from", "mail_connections", "outbox_dir", "mail_texts_dir"):
        assert getattr(again, name) == getattr(settings, name)
    assert "hidden-word" not in f"{again!r} {again.model_dump_json()}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("smtp_url", "mail.example/hidden-word"),
        ("smtp_url", "http://me:hidden-word@mail.example"),
        ("mail_from", "hidden-word"),
        ("mail_connections", 0),
    ],
)
def test_settings_for_mail_that_make_no_sense_are_refused_and_not_repeated(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name) as caught:
        settings_with(**{name: value})
    assert "hidden-word" not in str(caught.value)
