"""The outcome of sending a mail, and the reason for it.

A reason is one of the short codes below, some with the server's three digits behind it. It is never what a server
said: servers repeat addresses, and reasons are logged, counted and shown to staff.
"""

from enum import Enum
from typing import NamedTuple


class Outcome(Enum):
    """What became of a claimed mail."""

    SENT = "sent"
    """A server has taken it, and answers for it from here on."""
    REFUSED = "refused"
    """It will never be sent: the server refuses it for good, or there is nothing to send."""
    LATER = "later"
    """It was not handed over: it is tried again, and does not count as a sending."""
    UNKNOWN = "unknown"
    """The connection was lost before the server's last word: it may have been sent. It is tried again, and counts."""
    UNREADABLE = "unreadable"
    """It cannot be written. It stays until its lease is over, for the operator may repair the key or the template by
    then. It counts as a sending, so that it does not stay for ever."""


# The server answered. Its three digits are added: `smtp-refused-recipient-550`.
REFUSED_RECIPIENT = "smtp-refused-recipient"
REFUSED_US = "smtp-refused-us"
TRY_LATER = "smtp-try-later"
# The server did not let us in.
AUTH_FAILED = "smtp-auth-failed"
UNSUPPORTED = "smtp-unsupported"
PROTOCOL = "smtp-protocol"
NO_UTF8 = "smtp-no-utf8"
TLS_FAILED = "smtp-tls-failed"
CONNECT_FAILED = "smtp-connect-failed"
CONNECTION_LOST = "smtp-connection-lost"
TIMEOUT = "smtp-timeout"
# Something of ours.
CLOSING = "closing"
OUTBOX_UNWRITABLE = "outbox-unwritable"
MAIL_INVALID = "mail-invalid"
TEMPLATE_BROKEN = "template-broken"
UNREADABLE = "unreadable"
RECORD_UNKNOWN = "record-unknown"
UNWRITABLE = "unwritable"
# There is nothing to send after all: the link has expired, the consent was taken back, nobody is named.
NOT_NEEDED = "not-needed"
# Its source gave it up: it was handed over as often as may be, or it is too old, or not true any more.
TOO_MANY_SENDINGS = "too-many-sendings"
EXPIRED = "expired"

_ADVICE = {
    AUTH_FAILED: "The mail server refused the user or the password: correct them in SMTP_URL.",
    REFUSED_US: "The mail server does not take mails from us: ask it to let MULTITUDE_MAIL_FROM send.",
    TRY_LATER: "The mail server asks to come again later: it is busy, or over a limit of yours.",
    UNSUPPORTED: "The mail server offers no login, or no STARTTLS: choose another scheme or port in SMTP_URL.",
    PROTOCOL: "What answers at the host and port of SMTP_URL does not speak SMTP, or not as it should.",
    TLS_FAILED: "The mail server's certificate is not valid for the host in SMTP_URL.",
    CONNECT_FAILED: "Nothing answers at the host and port of SMTP_URL.",
    CONNECTION_LOST: "The mail server closed the connection: look at its log.",
    TIMEOUT: "The mail server does not answer in time: check the host and port of SMTP_URL, and the firewall.",
    OUTBOX_UNWRITABLE: "The folder in MULTITUDE_OUTBOX_DIR cannot be written to.",
    TEMPLATE_BROKEN: "A file in MULTITUDE_MAIL_TEXTS_DIR cannot be rendered: the worker's log names its place.",
    UNREADABLE: "A key is missing from MULTITUDE_SECRET_KEYS: bring it back.",
    RECORD_UNKNOWN: "Another version wrote what this one cannot read: let all workers be of the newest version.",
    UNWRITABLE: "A mail cannot be written: the worker's log says where in the code.",
}


def advice_on(reason: str) -> str:
    """What an operator can do about a reason, in a sentence; "" when it is the recipient's and not ours."""
    return next((advice for code, advice in _ADVICE.items() if reason.startswith(code)), "")


class SendResult(NamedTuple):
    """What became of one mail, and why it was not sent."""

    outcome: Outcome
    reason: str | None = None


SENT = SendResult(Outcome.SENT)
