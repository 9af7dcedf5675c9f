"""HTML pages of our own, used where no front end is set: a few words and a button, in the reader's language.

A folder holds `{page}.html` (Jinja2, which extends `layout`) and the texts, `{locale}.toml`: a table for each page. A
text may hold `{names}` of values. There are no scripts and nothing is fetched; opening a page never changes anything.
"""

import base64
import hashlib
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, DictLoader, Environment, FileSystemLoader, StrictUndefined

from app.kit.mail.templates import direction
from app.kit.problems import Forbidden
from app.kit.text.locales import negotiate

FALLBACK = "en"
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 30
_STYLE = """
  body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 4rem auto; padding: 0 1.2rem; }
  h1 { font-size: 1.6rem; line-height: 1.3; }
  button { font: inherit; font-weight: 600; padding: .8rem 1.6rem; border: 0; border-radius: .5rem; color: #fff;
    background: #7a1f5c; cursor: pointer; }
  input { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem; margin: .4rem 0 1.2rem; }
  input[type=checkbox] { width: auto; margin: 0 .5rem 0 0; }
  dt { font-weight: 600; }
  dd { margin: 0 0 .6rem; overflow-wrap: anywhere; }
  code { display: block; padding: 1rem; background: #f3f0f2; overflow-wrap: anywhere; color: #1c1c1c; }
"""
_LAYOUT = f"""<!doctype html>
<html lang="{{{{ locale }}}}" dir="{{{{ direction }}}}">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="robots" content="noindex">
  <title>{{{{ words.title }}}}</title>
  <link rel="icon" href="data:,">
  <style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{{{{ words.title }}}}</h1>
{{% block content %}}{{% endblock %}}
</main>
</body>
</html>
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


class CrossSitePost(Forbidden):
    """A form of this service works only on its own pages."""

    slug = "from-elsewhere"


class Pages:
    """The pages of one folder, each compiled once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = Environment(
            loader=ChoiceLoader([DictLoader({"layout": _LAYOUT}), FileSystemLoader(folder)]),
            undefined=StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._words = cache(self._read)

    def answer(self, request: Request, page: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page in the reader's language (`Accept-Language`), which no cache keeps. Every value is escaped."""
        words = self._words()
        languages = ",".join(request.headers.getlist("Accept-Language"))
        locale = negotiate(languages, sorted(words), FALLBACK)
        said = {name: word.format_map(values) for name, word in words[locale][page].items()}
        context = {**values, "words": said, "locale": locale, "direction": direction(locale)}
        body = self._env.get_template(f"{page}.html").render(context)
        headers = {
            "content-security-policy": _POLICY,
            "content-language": locale,
            "cache-control": "no-store",
            "vary": "Accept-Language",
        }
        return HTMLResponse(body, status, headers=headers)

    def _read(self) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
        """The texts, by locale and page."""
        files = sorted(self._folder.glob("*.toml"))
        return {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in files}


async def require_same_site(request: Request) -> None:
    """Protection against CSRF, for routes that our forms post to: CrossSitePost when the browser names another site.

    A page of another site could make its visitors press a button they do not see. A client that does not send
    `Sec-Fetch-Site` is no browser, or an old one, and is let through.
    """
    if "cross-site" in request.headers.getlist("Sec-Fetch-Site"):
        raise CrossSitePost


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, each with its first value; none when the body is no form."""
    return {name: values[0] for name, values in (await read_fields(request)).items()}


async def read_fields(request: Request) -> dict[str, list[str]]:
    """The fields of a form, each with all its values; none when the body is no form."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return {}
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return parse_qs(body, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}
