"""Throw-away addresses are known by their domain, and a domain is found again by a digest of its own."""

import pytest

from app.kit.crypto.sealing import KeyRing
from app.signatures.signing.email_domains import digest, domain_of, is_disposable
from tests.support.settings import SECRET_KEYS

RING = KeyRing.parse(SECRET_KEYS)


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("amina@example.org", "example.org"),
        ('"a@b"@example.org', "example.org"),
        ("a@xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_an_address_has_the_domain_after_its_last_at(address: str, domain: str) -> None:
    assert domain_of(address) == domain


@pytest.mark.parametrize("domain", ["mailinator.com", "anything.mailinator.com", "a.b.mailinator.com"])
def test_a_throw_away_domain_is_known_with_all_below_it(domain: str) -> None:
    assert is_disposable(domain)


@pytest.mark.parametrize(
    "domain", ["gmail.com", "example.org", "mailinator.org.example", "mailinator.com.example.org", "com", ""]
)
def test_any_other_domain_is_not(domain: str) -> None:
    assert not is_disposable(domain)


def test_a_domain_has_one_digest_which_needs_the_key() -> None:
    assert len(digest(RING, "example.org")) == 8
    assert digest(RING, "example.org") == digest(RING, "example.org") != digest(RING, "example.com")
    assert digest(RING, "example.org") != digest(KeyRing.parse("another-secret-of-the-movement-0001"), "example.org")


def test_a_domain_s_digest_tells_nothing_about_a_signer() -> None:
    for value in ("example.org", "domain@example.org", "amina@example.org"):
        assert not RING.digest(value).startswith(digest(RING, "example.org"))
