"""A post that keeps every mail as a file, for a machine that has no server to send by; and reading them back.

Whoever reads these files can confirm and sign in as anybody: the folder is its owner's alone.
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
from pathlib import Path

from app.kit.clock import now
from app.kit.mail.message import Delivery, Mail, MailDeliveryError, Sender
from app.kit.problems import OperatorError

_ENDING = ".eml"
_UNSAFE = re.compile(r"[^A-Za-z0-9.@_-]")
_NAME = re.compile(r"[A-Za-z0-9@_-][A-Za-z0-9.@_-]{0,199}")
_LONGEST_NAME = 150
_IN_TEXT = re.compile(r"https?://[^\s<>\"]+")


class FileTransport:
    """A folder that takes mails, one file each; one that is sent again replaces itself."""

    def __init__(self, folder: Path, sender: Sender) -> None:
        self._folder = folder
        self._sender = sender

    @classmethod
    def open(cls, folder: Path, sender: Sender) -> "FileTransport":
        """The outbox in this folder, made if need be; OperatorError when others could read it."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = folder.stat().st_mode
        except OSError:
            raise OperatorError("The folder in MULTITUDE_OUTBOX_DIR cannot be made.") from None
        if mode & 0o077:
            raise OperatorError("Others can read the folder in MULTITUDE_OUTBOX_DIR: take that from them (chmod 700).")
        return cls(folder, sender)

    async def send(self, mail: Mail) -> Delivery:
        """Keep one mail; PostFailed when it cannot be written."""
        try:
            await asyncio.to_thread(self._keep, mail)
        except OSError as error:
            raise MailDeliveryError(type(error).__name__) from None
        return Delivery.SENT

    async def close(self) -> None:
        """Nothing is held open."""

    def _keep(self, mail: Mail) -> None:
        written = mail.as_bytes(self._sender, now())
        # Made for its owner alone (0600), and seen under its name only when it is whole.
        handle, unfinished = tempfile.mkstemp(prefix=".", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(written)
            Path(unfinished).replace(self._folder / f"{file_name(mail.message_id)}{_ENDING}")
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise


def file_name(message_id: str) -> str:
    """A Message-ID as the name of a file, without its ending; two ids never share one."""
    bare = message_id.strip("<>")
    name = _UNSAFE.sub("_", bare)[:_LONGEST_NAME]
    if name == bare and _NAME.fullmatch(name):
        return name
    return f"{name.lstrip('.')}_{hashlib.sha256(bare.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class StoredMail:
    """One mail in the list: `id` is what it is asked for by."""

    id: str
    to: str
    subject: str
    at: datetime


@dataclass(frozen=True)
class ParsedMail:
    """One mail, read: its links in their order, each once."""

    kept: StoredMail
    text: str
    html: str
    links: list[str]


def kept_in(folder: Path, limit: int = 200) -> list[StoredMail]:
    """The latest mails, newest first; none when there is no folder."""
    try:
        with os.scandir(folder) as entries:
            files = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if _is_kept(entry)]
    except FileNotFoundError:
        return []
    newest = sorted(files, reverse=True)[:limit]
    return [_kept(name.removesuffix(_ENDING), _headers(folder / name)) for _, name in newest]


def _is_kept(entry: "os.DirEntry[str]") -> bool:
    return entry.name.endswith(_ENDING) and not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)


def _headers(file: Path) -> EmailMessage:
    message = BytesHeaderParser(policy=default).parsebytes(file.read_bytes())
    assert isinstance(message, EmailMessage)
    return message


def _kept(name: str, message: EmailMessage) -> StoredMail:
    return StoredMail(name, str(message["To"]), str(message["Subject"]), parsedate_to_datetime(str(message["Date"])))


def letter_in(folder: Path, name: str) -> ParsedMail | None:
    """One mail of the folder by its id; None when there is none."""
    file = folder / f"{name}{_ENDING}"
    if not _NAME.fullmatch(name) or file.is_symlink() or not file.is_file():
        return None
    message = message_from_bytes(file.read_bytes(), policy=default)
    assert isinstance(message, EmailMessage)
    text, html = _body(message, "plain"), _body(message, "html")
    return ParsedMail(_kept(name, message), text, html, list(dict.fromkeys([*hrefs(html), *_IN_TEXT.findall(text)])))


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
