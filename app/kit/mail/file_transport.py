"""The file transport: it stores every mail as a file, for a machine without a mail server; and reads them back.

Whoever reads these files can confirm and sign in as anybody: so nobody but its owner may read the folder.
"""

import asyncio
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import default
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from math import inf
from pathlib import Path

from app.kit.clock import now
from app.kit.mail import outcome
from app.kit.mail.message import Mail, Sender
from app.kit.mail.outcome import SENT, Outcome, SendResult
from app.kit.problems import OperatorError

_SUFFIX = ".eml"
_UNSAFE = re.compile(r"[^A-Za-z0-9.@_-]")
_NAME = re.compile(r"[A-Za-z0-9@_-][A-Za-z0-9.@_-]{0,199}")
_MOST_CHARACTERS = 150
_LINK_IN_TEXT = re.compile(r"https?://[^\s<>\"]+")


class FileTransport:
    """A mail transport that writes to a folder, one file a mail; a mail that is sent again replaces its file."""

    def __init__(self, folder: Path, sender: Sender) -> None:
        self._folder = folder
        self._sender = sender

    @classmethod
    def open(cls, folder: Path, sender: Sender) -> "FileTransport":
        """The transport for this folder, made if need be; OperatorError when others could read it."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = folder.stat().st_mode
        except OSError:
            raise OperatorError("The folder in MULTITUDE_OUTBOX_DIR cannot be made.") from None
        if mode & 0o077:
            raise OperatorError("Others can read the folder in MULTITUDE_OUTBOX_DIR: take that from them (chmod 700).")
        return cls(folder, sender)

    async def send(self, mail: Mail, begin_before: float = inf) -> SendResult:  # noqa: ARG002 - nothing to wait for
        """Store one mail."""
        try:
            await asyncio.to_thread(self._write, f"{file_name(mail.message_id)}{_SUFFIX}", mail)
        except OSError:
            return SendResult(Outcome.LATER, outcome.OUTBOX_UNWRITABLE)
        return SENT

    async def check(self) -> str | None:
        """Whether a file can be made in the folder."""
        try:
            await asyncio.to_thread(self._try_out)
        except OSError:
            return outcome.OUTBOX_UNWRITABLE
        return None

    async def close(self) -> None:
        """There is nothing to let go."""

    def _try_out(self) -> None:
        with tempfile.TemporaryFile(dir=self._folder):
            return

    def _write(self, name: str, mail: Mail) -> None:
        written = mail.as_bytes(self._sender, now())
        # The file is made for its owner alone (0600), and gets its name only when it is whole.
        handle, unfinished = tempfile.mkstemp(prefix=".", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(written)
            Path(unfinished).replace(self._folder / name)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise


def file_name(message_id: str) -> str:
    """The name of the file for a Message-ID, without its suffix; two ids never share one."""
    bare = message_id.strip("<>")
    name = _UNSAFE.sub("_", bare)[:_MOST_CHARACTERS]
    if name == bare and _NAME.fullmatch(name):
        return name
    return f"{name.lstrip('.')}_{hashlib.sha256(bare.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class StoredMail:
    """One mail in the list of those that are stored: `id` is what it is asked for by."""

    id: str
    to: str
    subject: str
    at: datetime


@dataclass(frozen=True)
class ParsedMail:
    """One stored mail, read whole: its links in their order, each once."""

    stored: StoredMail
    text: str
    html: str
    links: list[str]


def list_mails(folder: Path, limit: int = 200) -> list[StoredMail]:
    """The latest stored mails, newest first; none when there is no folder."""
    try:
        with os.scandir(folder) as entries:
            files = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if _is_mail(entry)]
    except FileNotFoundError:
        return []
    newest = sorted(files, reverse=True)[:limit]
    return [_stored(name.removesuffix(_SUFFIX), _headers(folder / name)) for _, name in newest]


def _is_mail(entry: "os.DirEntry[str]") -> bool:
    return entry.name.endswith(_SUFFIX) and not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)


def _headers(file: Path) -> EmailMessage:
    message = BytesHeaderParser(policy=default).parsebytes(file.read_bytes())
    assert isinstance(message, EmailMessage)
    return message


def _stored(name: str, message: EmailMessage) -> StoredMail:
    return StoredMail(name, str(message["To"]), str(message["Subject"]), parsedate_to_datetime(str(message["Date"])))


def read_mail(folder: Path, name: str) -> ParsedMail | None:
    """One stored mail by its id; None when there is none."""
    file = folder / f"{name}{_SUFFIX}"
    if not _NAME.fullmatch(name) or file.is_symlink() or not file.is_file():
        return None
    message = message_from_bytes(file.read_bytes(), policy=default)
    assert isinstance(message, EmailMessage)
    text, html = _body(message, "plain"), _body(message, "html")
    return ParsedMail(
        _stored(name, message), text, html, list(dict.fromkeys([*hrefs(html), *_LINK_IN_TEXT.findall(text)]))
    )


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return str(part.get_content()) if part else ""


def hrefs(html: str) -> list[str]:
    """Where the links of a page lead, in their order."""
    found = _Links()
    found.feed(html)
    return found.links


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]
