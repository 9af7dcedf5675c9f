"""The words of our mails: there in every language, replaceable by operators, safe from whoever signs."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from app.kit.mail.file_transport import hrefs
from app.kit.mail.templates import MailTemplateError, MailTemplates

LOCALES = ["en", "fr", "es", "de", "ar"]
LINK = "https://movement.example/confirm?a=1&b=2#token"
CONSENTS = [
    {"organization_name": "Sisters of Kampala", "given": True, "text": "May we write to you?"},
    {"organization_name": "Others", "given": False, "text": None},
]
_ASKING = {"petition_title": "End the ban", "link": LINK, "days": "30"}
CONTEXTS: dict[str, dict[str, Any]] = {
    "confirm_signature": {**_ASKING, "given_name": "Amina", "consents": CONSENTS},
    "already_signed": {**_ASKING, "given_name": "Amina", "petition_link": LINK, "consents": CONSENTS},
    "confirm_consents": {**_ASKING, "withdraw_link": LINK, "consents": CONSENTS},
    "confirm_withdrawal": _ASKING,
    "sign_in": {"link": LINK, "minutes": "15"},
    "welcome": {
        "given_name": "Amina",
        "organization_name": "The Movement",
        "unsubscribe_link": LINK,
        "proven": True,
    },
    "endpoint_paused": {"organization_name": "Sisters of Kampala", "label": "our CRM", "endpoint_id": "01a2-7c64"},
    "audit_alert": {"key_id": "01a2-7c64", "what": "look", "count": "5123", "hour": "2026-11-28 09:00 UTC"},
    "pending_act": {
        "act_id": "01a2-7c65",
        "verb": "petition.archive",
        "object": "petition 01a2-7c66",
        "key_id": "01a2-7c64",
        "due_at": "2026-11-29 09:00 UTC",
    },
}
# These have a link to follow; there is nothing to click in the others.
LINKED = {kind for kind, values in CONTEXTS.items() if LINK in values.values()}
EVERY = [(kind, locale) for kind in CONTEXTS for locale in LOCALES]


class Outline(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def texts() -> MailTemplates:
    return MailTemplates()


@pytest.mark.parametrize(("kind", "locale"), EVERY)
def test_every_kind_is_there_in_every_language(texts: MailTemplates, kind: str, locale: str) -> None:
    mail = texts.render(kind, locale, CONTEXTS[kind])
    assert mail.locale == locale
    assert 5 < len(mail.subject) < 60
    assert "\n" not in mail.subject
    for value in CONTEXTS[kind].values():
        assert isinstance(value, list | bool) or value in mail.text
    assert mail.subject not in mail.text
    assert set(hrefs(mail.html)) == ({LINK} if kind in LINKED else set())
    for written in (mail.text, mail.html):
        assert "{{" not in written
        assert "{%" not in written


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("kind", [kind for kind, values in CONTEXTS.items() if "consents" in values])
def test_every_consent_is_named_with_its_text_and_what_was_said(texts: MailTemplates, kind: str, locale: str) -> None:
    mail = texts.render(kind, locale, CONTEXTS[kind])
    for written in (mail.text, mail.html):
        assert all(words in written for words in ("Sisters of Kampala", "May we write to you?", "Others"))
        assert "None" not in written
    turned = [one | {"given": not one["given"]} for one in CONSENTS]
    assert texts.render(kind, locale, {**CONTEXTS[kind], "consents": turned}).text != mail.text
    marked = [CONSENTS[0] | {"organization_name": "<b>", "text": "<i>"}]
    page = texts.render(kind, locale, {**CONTEXTS[kind], "consents": marked}).html
    assert not {"b", "i"} & {tag for tag, _ in Outline(page).tags}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("kind", [kind for kind, values in CONTEXTS.items() if "consents" in values])
def test_consents_stand_apart_from_what_follows(texts: MailTemplates, kind: str, locale: str) -> None:
    lines = texts.render(kind, locale, CONTEXTS[kind]).text.splitlines()
    (last,) = [number for number, line in enumerate(lines) if "Others" in line]
    assert lines[last + 1 : last + 2] == [""]
    assert lines[last + 2]


@pytest.mark.parametrize("locale", LOCALES)
def test_a_welcome_says_who_has_said_that_they_agreed(texts: MailTemplates, locale: str) -> None:
    values = CONTEXTS["welcome"]
    own = texts.render("welcome", locale, values)
    told = texts.render("welcome", locale, values | {"proven": False})
    assert {line for line in own.text.splitlines() if "The Movement" in line}.isdisjoint(told.text.splitlines())
    assert "The Movement" in told.text
    assert "The Movement" in told.html
    assert set(hrefs(told.html)) == {LINK}


@pytest.mark.parametrize("kind", CONTEXTS)
def test_french_has_a_space_before_a_colon_and_german_goes_on_in_small_letters(texts: MailTemplates, kind: str) -> None:
    french = texts.render(kind, "fr", CONTEXTS[kind])
    assert not re.search(r"[\w>]:(\s|$)", french.text)
    german = texts.render(kind, "de", {**CONTEXTS[kind], "given_name": ""}).text.splitlines()
    assert german[german.index("Guten Tag,") + 2][0].islower()


@pytest.mark.parametrize(("kind", "locale"), EVERY)
def test_no_two_languages_say_the_same(texts: MailTemplates, kind: str, locale: str) -> None:
    mine = texts.render(kind, locale, CONTEXTS[kind])
    for other in set(LOCALES) - {locale}:
        theirs = texts.render(kind, other, CONTEXTS[kind])
        assert mine.subject != theirs.subject
        assert mine.text != theirs.text


@pytest.mark.parametrize(("kind", "locale"), EVERY)
def test_a_subject_betrays_no_cause(texts: MailTemplates, kind: str, locale: str) -> None:
    subject = texts.render(kind, locale, CONTEXTS[kind]).subject
    assert "End the ban" not in subject
    assert "The Movement" not in subject
    assert "Sisters" not in subject


@pytest.mark.parametrize(("kind", "locale"), EVERY)
def test_a_page_asks_for_nothing_from_elsewhere(texts: MailTemplates, kind: str, locale: str) -> None:
    page = texts.render(kind, locale, CONTEXTS[kind]).html
    tags = Outline(page).tags
    assert not {tag for tag, _ in tags} & {"img", "script", "link", "iframe", "style", "object", "form", "base"}
    assert not [name for _, attributes in tags for name in attributes if name in {"src", "srcset", "background"}]
    assert "url(" not in page
    assert "@import" not in page


@pytest.mark.parametrize("locale", LOCALES)
def test_arabic_is_written_from_the_right(texts: MailTemplates, locale: str) -> None:
    tags = Outline(texts.render("confirm_signature", locale, CONTEXTS["confirm_signature"]).html).tags
    (root,) = [attributes for tag, attributes in tags if tag == "html"]
    assert root == {"lang": locale, "dir": "rtl" if locale == "ar" else "ltr"}
    # What somebody typed keeps its own direction, and a link reads from the left everywhere.
    assert [tag for tag, _ in tags].count("bdi") == 2 + 3
    assert "ltr" in [attributes.get("dir") for tag, attributes in tags if tag == "a"]


@pytest.mark.parametrize(
    ("locale", "otherwise", "found"),
    [
        ("fr", [], "fr"),
        ("fr-CA", [], "fr"),
        ("AR-eg", [], "ar"),
        ("sw", ["de"], "de"),
        ("sw", ["lg", "es-MX"], "es"),
        ("sw", [], "en"),
        ("", [], "en"),
        ("../../etc", [], "en"),
        ("fr\r\nBcc: x", ["de"], "de"),
    ],
)
def test_the_nearest_language_on_offer_is_taken(
    texts: MailTemplates, locale: str, otherwise: list[str], found: str
) -> None:
    assert texts.render("sign_in", locale, CONTEXTS["sign_in"], otherwise).locale == found


def test_a_title_is_text_and_no_markup(texts: MailTemplates) -> None:
    context = {**CONTEXTS["confirm_signature"], "petition_title": '<b>"Bread" & {{ link }}</b>', "given_name": "<i>"}
    mail = texts.render("confirm_signature", "en", context)
    assert "<b>" not in mail.html
    assert "&lt;b&gt;&#34;Bread&#34; &amp; {{ link }}&lt;/b&gt;" in mail.html
    assert '<b>"Bread" & {{ link }}</b>' in mail.text


@pytest.mark.parametrize(
    "name",
    [
        "Win at evil.example",
        "http://evil",
        "www evil",
        "me@evil",
        "evil.example/x",
        "evil\u3002example",
        "evil\uff61example",
        "evil\uff0eexample",
        "evil\u2024example",
        "evil.\u200bexample",
        "\uff57\uff57\uff57 evil",
        "me\uff20evil",
        "Call 0 77 21",
        "Call \u0660\u0667\u0667\u0662\u0661",
        "\u2460\u2461\u2462\u2463\u2464",
        "x" * 61,
        "\ufdfa" * 4,
        "\u200b",
        " ",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["confirm_signature", "already_signed", "welcome"])
def test_a_name_that_is_an_advertisement_is_not_spoken(texts: MailTemplates, kind: str, name: str) -> None:
    mail = texts.render(kind, "en", {**CONTEXTS[kind], "given_name": name})
    assert mail.text.startswith("Hello,\n")
    assert "<p>Hello,</p>" in mail.html


@pytest.mark.parametrize(
    "name", ["Amina", "J. R.", "O'Neill", "María José", "أمينة", "Nguyễn Thị-Lan", "علی‌رضا", "山田。", "Amina 1984"]
)
def test_a_name_is_spoken(texts: MailTemplates, name: str) -> None:
    assert f"Hello {name},\n" in texts.render("welcome", "en", {**CONTEXTS["welcome"], "given_name": name}).text


def test_a_kind_nobody_wrote_is_an_error(texts: MailTemplates) -> None:
    with pytest.raises(LookupError):
        texts.render("nothing", "en", {})
    with pytest.raises(LookupError):
        texts.render("../mail_texts/sign_in", "en", CONTEXTS["sign_in"])


def test_what_a_text_asks_for_must_be_given(texts: MailTemplates) -> None:
    with pytest.raises(MailTemplateError, match=r"sign_in/en\.txt"):
        texts.render("sign_in", "en", {"link": LINK})


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, words in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(words, encoding="utf-8")
    return folder


def test_an_operators_file_wins_one_by_one(tmp_path: Path) -> None:
    own = MailTemplates(write(tmp_path, {"sign_in/en.txt": "Come in, {{ minutes }}\nHere: {{ link }}\n"}))
    mail = own.render("sign_in", "en", CONTEXTS["sign_in"])
    assert (mail.subject, mail.text) == ("Come in, 15", f"Here: {LINK}\n")
    assert mail.html == MailTemplates().render("sign_in", "en", CONTEXTS["sign_in"]).html
    assert own.render("sign_in", "fr", CONTEXTS["sign_in"]) == MailTemplates().render(
        "sign_in", "fr", CONTEXTS["sign_in"]
    )


def test_an_operator_can_add_a_language(tmp_path: Path) -> None:
    page = '{% extends "layout.html" %}{% block title %}Ingia{% endblock %}{% block content %}{{ link }}{% endblock %}'
    own = MailTemplates(write(tmp_path, {"sign_in/sw.txt": "Ingia\n\n{{ link }}\n", "sign_in/sw.html": page}))
    assert own.render("sign_in", "sw-KE", CONTEXTS["sign_in"]).subject == "Ingia"
    assert '<html lang="sw" dir="ltr">' in own.render("sign_in", "sw", CONTEXTS["sign_in"]).html


def test_a_language_with_half_of_its_files_is_not_on_offer(tmp_path: Path) -> None:
    own = MailTemplates(write(tmp_path, {"sign_in/sw.txt": "Ingia\n{{ link }}\n"}))
    assert own.render("sign_in", "sw", CONTEXTS["sign_in"]).locale == "en"


def test_an_operators_layout_is_around_every_page(tmp_path: Path) -> None:
    own = MailTemplates(write(tmp_path, {"layout.html": "<h1>Ours</h1>{% block content %}{% endblock %}"}))
    assert own.render("welcome", "fr", CONTEXTS["welcome"]).html.startswith("<h1>Ours</h1>")


@pytest.mark.parametrize(
    ("name", "words"),
    [("sign_in/en.txt", "Come in\n\n{% if %}\n"), ("sign_in/de.html", "{{ link"), ("parts.html", "{%")],
)
def test_a_broken_file_is_found_at_the_start(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(MailTemplateError, match=name.replace(".", r"\.")):
        MailTemplates(write(tmp_path, {name: words}))


def test_a_folder_that_is_not_there_is_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(MailTemplateError, match="does not exist"):
        MailTemplates(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "words",
    ["{{ ''.__class__.__mro__ }}", "{{ link.__init__.__globals__ }}", "{% include '../../settings.py' %}"],
)
def test_an_operators_file_can_only_speak(tmp_path: Path, words: str) -> None:
    own = MailTemplates(write(tmp_path, {"sign_in/en.txt": f"Come in\n{words}\n"}))
    with pytest.raises(MailTemplateError):
        own.render("sign_in", "en", CONTEXTS["sign_in"])


def test_a_subject_is_one_line_whatever_is_put_in(tmp_path: Path) -> None:
    own = MailTemplates(write(tmp_path, {"sign_in/en.txt": "Hello {{ link }}\nText\n"}))
    mail = own.render("sign_in", "en", {"link": "a\r\nBcc: x@example.org", "minutes": "15"})
    assert mail.subject == "Hello a Bcc: x@example.org"
