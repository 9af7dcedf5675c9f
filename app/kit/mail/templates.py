"""Mail templates: Jinja2, per kind of mail and locale. An operator can replace them file by file.

`app/mail_texts/{kind}/{locale}.txt` and `.html`. The first line of the `.txt` is the subject. A file of the same name
in the operator's own folder wins; a locale is on offer as soon as both of its files are there.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import BaseLoader, ChoiceLoader, Environment, FileSystemLoader, StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.kit.problems import OperatorError
from app.kit.text.locales import canonical, negotiate

_OURS = Path(__file__).parents[2] / "mail_texts"
FALLBACK = "en"
_RIGHT_TO_LEFT = {"ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"}
# A mail client makes a link of these. Whoever signs up strangers could send them there in our name.
_LIKE_A_LINK = re.compile(r"[/@:\\]|www|\w[.\u3002]\w\w", re.IGNORECASE)
# A number to call, or an account to send money to.
_MOST_DIGITS = 4
_LONGEST_NAME = 60
T = TypeVar("T")


class MailTemplateError(OperatorError):
    """A template cannot be rendered; the message names the file, never what was to be put in."""


@dataclass(frozen=True)
class Rendered:
    """A rendered template: subject and both bodies of one mail, and the locale they are in."""

    subject: str
    text: str
    html: str
    locale: str


class MailTemplates:
    """All mail templates, each compiled once: a changed file is seen by the next process."""

    def __init__(self, own_folder: Path | None = None) -> None:
        """With an operator's own folder before ours; MailTemplateError when it is missing or has a broken file."""
        folders = [_OURS] if own_folder is None else [own_folder, _OURS]
        self._env = _environment(ChoiceLoader([FileSystemLoader(folder) for folder in folders]))
        self._offered = cache(self._locales)
        self._compiled = cache(self._compile)
        if own_folder is not None:
            self._check(own_folder)

    def _check(self, folder: Path) -> None:
        if not folder.is_dir():
            raise MailTemplateError("The folder in MULTITUDE_MAIL_TEXTS_DIR does not exist.")
        for name in FileSystemLoader(folder).list_templates():
            if name.endswith((".txt", ".html")):
                _naming(name, partial(self._compiled, name))

    def render(self, kind: str, locale: str, context: Mapping[str, Any], otherwise: Iterable[str] = ()) -> Rendered:
        """One mail in the nearest locale on offer to `locale`, else to one of `otherwise`, else in English.

        LookupError when there is no such kind; MailTemplateError when a template asks for what `context` does not have.
        """
        offered = self._offered(kind)
        found = negotiate(",".join([locale, *otherwise]), offered, FALLBACK)
        values = {**context, "locale": found, "direction": direction(found)}
        text, html = f"{kind}/{found}.txt", f"{kind}/{found}.html"
        subject, body = (_naming(text, partial(part.render, values)) for part in self._parts(text))
        (page,) = self._parts(html)
        # A subject is one line, whatever was put into it.
        return Rendered(
            " ".join(subject.split()), body.strip() + "\n", _naming(html, partial(page.render, values)), found
        )

    def _parts(self, name: str) -> tuple[Template, ...]:
        return _naming(name, partial(self._compiled, name))

    def _locales(self, kind: str) -> list[str]:
        """Those with both files; LookupError when English is not among them."""
        names = self._env.list_templates()
        files = {name.removeprefix(f"{kind}/") for name in names if name.startswith(f"{kind}/")}
        complete = sorted(name[:-4] for name in files if name.endswith(".txt") and f"{name[:-4]}.html" in files)
        if FALLBACK not in complete:
            raise LookupError(kind)
        return complete

    def _compile(self, name: str) -> tuple[Template, ...]:
        """An HTML page as one template; a text as two, its subject and the rest."""
        if name.endswith(".html"):
            return (self._env.get_template(name),)
        assert self._env.loader is not None
        source, file, _ = self._env.loader.get_source(self._env, name)
        subject, _, rest = source.partition("\n")
        # The rest keeps an empty first line, so that an error names the line of the file.
        codes = [self._env.compile(part, name, file) for part in (subject, f"\n{rest}")]
        return tuple(Template.from_code(self._env, code, self._env.globals) for code in codes)


def _environment(loader: BaseLoader) -> Environment:
    # Sandboxed: whoever translates a template must not be able to run code by it.
    env = ImmutableSandboxedEnvironment(
        loader=loader,
        undefined=StrictUndefined,
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    env.tests["speakable"] = is_safe_greeting_name
    return env


def _naming(name: str, call: Callable[[], T]) -> T:
    """What `call` returns; when the template fails, MailTemplateError with the file's name."""
    try:
        return call()
    except (TemplateError, UnicodeDecodeError, TypeError) as error:
        line = getattr(error, "lineno", None)
        at = f", line {line}" if line else ""
        raise MailTemplateError(f"The mail text {name} cannot be used{at}: {type(error).__name__}.") from None


def direction(locale: str) -> str:
    """`rtl` or `ltr`, as HTML spells it."""
    return "rtl" if canonical(locale).partition("-")[0] in _RIGHT_TO_LEFT else "ltr"


def is_safe_greeting_name(name: str) -> bool:
    """Whether a mail may greet by this name, which anybody can have typed: it is short, no number and no link.

    It is normalised first as mail clients do when they look for links: one spelling for every dot and digit (NFKC),
    and without invisible characters.
    """
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    digits = sum(map(str.isdigit, seen))
    return 0 < len(seen.strip()) <= _LONGEST_NAME and digits <= _MOST_DIGITS and not _LIKE_A_LINK.search(seen)
