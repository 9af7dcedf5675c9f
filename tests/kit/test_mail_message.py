"""A mail: what stands in it is what was put in, whoever put it in, and nothing else."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.mail.message import Mail, MailInvalid, Sender, SmtpUrl

SENDER = Sender.parse("Multitude <no-reply@movement.example>")
AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
LONG_LINK = f"https://movement.example/unsubscribe?token={'a' * 600}"


def a_mail(**more: str) -> Mail:
    given = {
        "recipient": "amina@example.org",
        "subject": "Hello",
        "text": "Text",
        "html": "<p>Page</p>",
        "message_id": "<0198.1@movement.example>",
        "locale": "en",
        **more,
    }
    return Mail(**given)


def read(mail: Mail, sender: Sender = SENDER) -> EmailMessage:
    """The mail as whoever gets it reads it."""
    message = message_from_bytes(mail.as_bytes(sender, AT), policy=default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def test_a_mail_says_who_what_when_and_in_which_language() -> None:
    message = read(a_mail(subject="Größe zählt", text="Grüße\n.\nEnde", html="<p>مرحبًا</p>", locale="de-AT"))
    assert message["From"] == "Multitude <no-reply@movement.example>"
    assert message["To"] == "amina@example.org"
    assert message["Subject"] == "Größe zählt"
    assert message["Date"].datetime == AT
    assert message["Message-ID"] == "<0198.1@movement.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Content-Language"] == "de-AT"
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert body(message, "plain") == "Grüße\n.\nEnde\n"
    assert body(message, "html") == "<p>مرحبًا</p>\n"
    assert "List-Unsubscribe" not in message


def test_the_same_mail_written_again_is_the_same() -> None:
    assert a_mail().as_bytes(SENDER, AT) == a_mail().as_bytes(SENDER, AT)


def test_one_click_unsubscribes() -> None:
    written = a_mail(unsubscribe_url=LONG_LINK).as_bytes(SENDER, AT)
    # On one line and as it is, however long: mail programs read nothing else.
    assert f"\r\nList-Unsubscribe: <{LONG_LINK}>\r\n".encode() in written
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in written


def test_every_line_is_short_enough_ascii_and_ends_in_crlf() -> None:
    words = "Wörter " * 400
    written = a_mail(subject=words, text=words, html=f"<p>{'x' * 3000}</p>", unsubscribe_url=LONG_LINK).as_bytes(
        SENDER, AT
    )
    assert written.isascii()
    assert b"\n" not in written.replace(b"\r\n", b"")
    assert b"\r" not in written.replace(b"\r\n", b"")
    lines = written.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert max(len(line) for line in lines if not line.startswith(b"List-Unsubscribe")) <= 78


@given(st.text(max_size=200), st.text(max_size=400), st.text(max_size=400))
def test_whatever_is_put_in_comes_out_and_adds_nothing(subject: str, text: str, html: str) -> None:
    try:
        mail = a_mail(subject=subject, text=text, html=html)
    except MailInvalid:
        return
    message = read(mail)
    assert len(message.keys()) == len(set(message.keys())) == 9
    assert len(list(message.iter_parts())) == 2
    assert str(message["Subject"]).split() == subject.split()
    for kind, put_in in (("plain", text), ("html", html)):
        assert body(message, kind) == put_in.replace("\r\n", "\n").replace("\r", "\n").rstrip() + "\n"


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "amina",
        "@example.org",
        "amina@",
        "amina@example.org\r\nBcc: all@example.org",
        "amina@example.org\n",
        "amina@example.org, all@example.org",
        "amina@example.org;all@example.org",
        "Amina <amina@example.org>",
        "<amina@example.org>",
        "amina@example.org> SIZE=1",
        "amina @example.org",
        '"amina all"@example.org',
        "amina@exam\x00ple.org",
        "amina@[127.0.0.1]",
        "a..b@example.org",
        "a" * 65 + "@example.org",
        "a@" + "b" * 64 + ".org",
    ],
)
def test_a_recipient_is_one_bare_address(recipient: str) -> None:
    with pytest.raises(MailInvalid) as caught:
        a_mail(recipient=recipient)
    assert str(caught.value) == "the recipient cannot stand in a mail"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("subject", "Hello\r\nBcc: all@example.org"),
        ("subject", "Hello\nthere"),
        ("subject", "Hello\x00"),
        ("subject", "Hello\u2028there"),
        ("message_id", "0198@movement.example"),
        ("message_id", "<0198@movement.example>\r\nBcc: all@example.org"),
        ("message_id", "<a b@movement.example>"),
        ("locale", "en\r\nBcc: all@example.org"),
        ("locale", ""),
        ("unsubscribe_url", "https://movement.example/>\r\nBcc: all@example.org"),
        ("unsubscribe_url", "https://movement.example/>, <https://elsewhere.example/"),
        ("unsubscribe_url", "mailto:all@example.org"),
        ("unsubscribe_url", "javascript:alert(1)"),
        ("unsubscribe_url", f"https://movement.example/{'a' * 1000}"),
        ("text", "half a letter: \ud800"),
        ("html", "half a letter: \udfff"),
    ],
)
def test_nothing_that_is_put_in_becomes_a_header(part: str, value: str) -> None:
    with pytest.raises(MailInvalid) as caught:
        a_mail(**{part: value})
    assert "Bcc" not in str(caught.value)


def test_a_subject_that_looks_encoded_is_shown_as_it_is() -> None:
    subject = "=?utf-8?q?Free_money?="
    assert read(a_mail(subject=subject))["Subject"] == subject


def test_a_domain_in_any_script_is_written_in_ascii() -> None:
    mail = a_mail(recipient="amina@bücher.example")
    assert (mail.envelope_recipient, mail.needs_utf8) == ("amina@xn--bcher-kva.example", False)
    assert read(mail)["To"] == "amina@xn--bcher-kva.example"


def test_a_name_in_any_script_needs_a_server_that_knows_it() -> None:
    mail = a_mail(recipient="أمينة@bücher.example")
    assert (mail.envelope_recipient, mail.needs_utf8) == ("أمينة@xn--bcher-kva.example", True)
    assert "To: أمينة@xn--bcher-kva.example\r\n".encode() in mail.as_bytes(SENDER, AT)


def test_a_mail_shows_nobody_in_a_log() -> None:
    shown = repr(a_mail(subject="Hidden subject", text="Hidden text", html="Hidden page", unsubscribe_url=LONG_LINK))
    assert "amina" not in shown
    assert "Hidden" not in shown
    assert "unsubscribe?" not in shown


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        ("no-reply@localhost", "no-reply@localhost", ""),
        ("Multitude <no-reply@localhost>", "no-reply@localhost", "Multitude"),
        ('"Movement, the" <a@movement.example>', "a@movement.example", "Movement, the"),
        ("Mouvement d'été <a@bücher.example>", "a@xn--bcher-kva.example", "Mouvement d'été"),
    ],
)
def test_a_sender_is_an_address_with_or_without_a_name(text: str, address: str, name: str) -> None:
    sender = Sender.parse(text)
    assert sender.address == address
    (seen,) = read(a_mail(), sender)["From"].addresses
    assert (seen.addr_spec, seen.display_name) == (address, name)


@pytest.mark.parametrize(
    "text", ["", "nobody", "A <>", "a@b.example, c@d.example", "A <a@b.example>\r\nBcc: x@y.example", "ü@b.example"]
)
def test_what_is_no_sender_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the sender cannot stand in a mail"):
        Sender.parse(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", ("mail.example", 25, None, None, False, None)),
        ("smtp://mail.example:2525/", ("mail.example", 2525, None, None, False, None)),
        ("smtps://me%40x:p%2Fw@mail.example", ("mail.example", 465, "me@x", "p/w", True, False)),
        ("smtp+starttls://mail.example", ("mail.example", 587, None, None, False, True)),
        # A password does not travel in clear, except within this machine.
        ("smtp://me:pw@mail.example", ("mail.example", 25, "me", "pw", False, True)),
        ("smtp://me:pw@127.0.0.1", ("127.0.0.1", 25, "me", "pw", False, None)),
        ("smtp://me:pw@[::1]:26", ("::1", 26, "me", "pw", False, None)),
    ],
)
def test_a_url_says_where_mails_are_handed_over(url: str, expected: tuple[object, ...]) -> None:
    route = SmtpUrl.parse(url)
    assert (route.host, route.port, route.username, route.password, route.use_tls, route.start_tls) == expected
    assert "p/w" not in repr(route)


@pytest.mark.parametrize(
    "url",
    ["", "mail.example", "http://mail.example", "smtp://", "smtp://h:99999", "smtp://u:secret/word@h", "smtp://h?x=1"],
)
def test_a_url_that_says_something_else_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="must look like smtp://") as caught:
        SmtpUrl.parse(url)
    assert "secret" not in str(caught.value)
    assert "99999" not in str(caught.value)
