"""E-mail addresses: validated without DNS, and brought to the one form that stands for a person.

The canonical form is what a signer is digested from, so a change here would make people new: it may only ever grow
by providers nobody has signed from. Case never tells two people apart in practice. Dots and tags are dropped only
for providers known to drop them themselves; the lists below are still to be checked against what these publish.
"""

import re
import unicodedata

from email_validator import EmailNotValidError, validate_email

# What this pattern takes needs no closer look (RFC 5321 dot-atoms in plain ASCII); it decides nearly every address.
_PLAIN = re.compile(
    r"(?=.{6,254}$)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}",
    re.ASCII,
)
_LONGEST_LOCAL_PART = 64
LONGEST = 254

_SAME_DOMAIN = {"googlemail.com": "gmail.com", "pm.me": "proton.me", "protonmail.com": "proton.me"}
_DROPS_DOTS = {"gmail.com"}
_DROPS_TAGS = {
    "gmail.com",
    "outlook.com",
    "hotmail.com",
    "live.com",
    "icloud.com",
    "me.com",
    "fastmail.com",
    "proton.me",
}


def validated(address: str) -> str:
    """The address as it may be written to: trimmed, Unicode-normalised; ValueError when it is none."""
    address = address.strip()
    if _PLAIN.fullmatch(address) and address.index("@") <= _LONGEST_LOCAL_PART and "xn--" not in address.lower():
        return address
    if len(address) > LONGEST:
        raise ValueError("is not a valid e-mail address")
    try:
        checked = validate_email(address, strict=True, check_deliverability=False, globally_deliverable=False)
    except (EmailNotValidError, ValueError):
        raise ValueError("is not a valid e-mail address") from None
    # A name in the public DNS never ends in digits alone (RFC 3696, section 2): that is an IP address.
    _, dot, top = checked.ascii_domain.rpartition(".")
    if not dot or top.isdigit() or checked.domain.startswith("["):
        raise ValueError("is not a valid e-mail address")
    return checked.normalized


def canonical(address: str) -> str:
    """The one form of a validated address that stands for its owner, with the domain in ASCII."""
    local, _, domain = address.rpartition("@")
    domain = domain.lower()
    if not domain.isascii():
        domain = validate_email(address, check_deliverability=False, globally_deliverable=False).ascii_domain.lower()
    domain = _SAME_DOMAIN.get(domain, domain)
    return f"{_kept(local, domain)}@{domain}"


def without_ignored(address: str) -> str:
    """The validated address without what its provider ignores, at the domain as it was typed.

    To write to somebody whose address a stranger may have typed: nothing can be told them by a tag.
    """
    local, _, domain = address.rpartition("@")
    return f"{_kept(local, _SAME_DOMAIN.get(domain.lower(), domain.lower()))}@{domain}"


def _kept(local: str, domain: str) -> str:
    """What stands for the owner in the part before the @, at a domain in its canonical form."""
    local = unicodedata.normalize("NFC", local.lower())
    if domain in _DROPS_TAGS:
        local = local.partition("+")[0] or local
    return local.replace(".", "") if domain in _DROPS_DOTS else local
