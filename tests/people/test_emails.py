"""One person, one address, however it is spelt; and never two people for one address."""

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.people.fields.emails import canonical, validated, without_ignored

SAME = [
    ["amina@example.org", "AMINA@example.org", "amina@EXAMPLE.ORG", "  amina@example.org\n"],
    ["amina.okello@gmail.com", "AminaOkello@gmail.com", "a.m.i.n.a.okello+un@gmail.com", "aminaokello@googlemail.com"],
    ["amina@outlook.com", "amina+petition@outlook.com", "Amina+x+y@Outlook.com"],
    ["amina@proton.me", "amina@pm.me", "amina@protonmail.com", "amina+x@protonmail.com"],
    ["a@bücher.example", "a@BÜCHER.example", "a@xn--bcher-kva.example", "A@XN--BCHER-KVA.example"],
    ["jose\u0301@example.org", "jos\u00e9@example.org", "JOSÉ@example.org"],
    ["用户@例子.广告", "用户@xn--fsqu00a.xn--4rr70v"],
]
DISTINCT = [
    "amina@example.org",
    "amina+un@example.org",
    "amina.okello@example.org",
    "aminaokello@example.org",
    "amina.okello@outlook.com",
    "aminaokello@outlook.com",
    "amina@example.com",
    "amina@sub.example.org",
    "jose@example.org",
    "josé@example.org",
    "amina@bucher.example",
    "amina@bücher.example",
]
INVALID = [
    "",
    " ",
    "amina",
    "@example.org",
    "amina@",
    "amina@@example.org",
    "amina@example@example.org",
    "amina@localhost",
    "amina@example..org",
    "amina@.example.org",
    "amina@example.org.",
    ".amina@example.org",
    "amina.@example.org",
    "am..ina@example.org",
    "amina @example.org",
    "amina@exam ple.org",
    "amina@-example.org",
    "amina@example-.org",
    "amina@example.org, bob@example.org",
    "Amina <amina@example.org>",
    "mailto:amina@example.org:25",
    '"amina okello"@example.org',
    "amina@[127.0.0.1]",
    "amina@[IPv6:::1]",
    "amina@127.0.0.1",
    "ami\x00na@example.org",
    "ami\nna@example.org",
    "ami\u202ena@example.org",
    "ami\ud800na@example.org",
    "amina@xn--a.example",
    "x" * 65 + "@example.org",
    "amina@" + "x" * 64 + ".org",
    "amina@" + "x." * 130 + "org",
]


def known_as(address: str) -> str:
    return canonical(validated(address))


@pytest.mark.parametrize("spellings", SAME, ids=lambda spellings: spellings[0])
def test_one_person_however_spelt(spellings: list[str]) -> None:
    assert len({known_as(spelling) for spelling in spellings}) == 1


def test_different_people_stay_different() -> None:
    assert len({known_as(address) for address in DISTINCT}) == len(DISTINCT)


@pytest.mark.parametrize("address", INVALID, ids=ascii)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not a valid e-mail address"):
        validated(address)


def test_an_address_stays_as_it_may_be_written_to() -> None:
    assert validated(" Amina.Okello+un@Gmail.com ") == "Amina.Okello+un@Gmail.com"


LOCAL = st.text(alphabet=string.ascii_letters + string.digits + ".+-_'ßİǅéſ\u0345", min_size=1, max_size=20)
DOMAIN = st.sampled_from(
    ["gmail.com", "GoogleMail.com", "pm.me", "outlook.com", "example.org", "Straße.example", "xn--bcher-kva.example"]
)


@settings(max_examples=400)
@given(LOCAL, DOMAIN)
@example("+tag", "gmail.com")
@example("+.tag", "gmail.com")
@example("a.+b", "outlook.com")
@example("ΣΑΣ", "example.org")
def test_without_what_is_ignored_it_is_the_same_person_at_the_same_domain(local: str, domain: str) -> None:
    try:
        address = validated(f"{local}@{domain}")
    except ValueError:
        return
    written = without_ignored(address)
    assert canonical(written) == canonical(address)
    assert written.rpartition("@")[2] == address.rpartition("@")[2]
    assert without_ignored(written) == written


@settings(max_examples=400)
@given(LOCAL, DOMAIN)
@example("+tag", "gmail.com")
@example("+.tag", "gmail.com")
@example("a.+b", "outlook.com")
@example("ΣΑΣ", "example.org")
def test_the_canonical_form_is_its_own_canonical_form(local: str, domain: str) -> None:
    try:
        once = known_as(f"{local}@{domain}")
    except ValueError:
        return
    assert canonical(once) == once
    assert once.rpartition("@")[2].isascii()
    assert known_as(f" {local}@{domain.upper().replace('SS', 'ß')} ") == once or "ß" in domain


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=40), st.builds("{}@{}".format, st.text(max_size=30), st.text(max_size=30))))
@example("a@\u3002.b")
@example("a@xn--.b")
@example("a@" + "\u00ad" * 3 + ".b")
@example("\ud800@example.org")
@example("a@\ud800.org")
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = validated(text)
    except ValueError:
        return
    assert "@" in canonical(address)
