"""A page for whoever develops or tries the service without a mail server: the mails that would have been sent.

It shows links by which anybody can be confirmed and signed in, so that it is there only when the outbox is, where
nobody else is served (`PUBLIC_URL`) and no mail sent, and only for a browser on this very machine: neither for one that
comes through a proxy, nor for a page elsewhere that has given its own name this machine's address. A proxy need not say
that it is one, and may name this machine as the host: that is what `PUBLIC_URL` is asked for.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import DictLoader, Environment, StrictUndefined

from app.kit.mail import file_transport
from app.kit.problems import NotFound
from app.kit.settings import Settings
from app.kit.text.urls import is_here

router = APIRouter(include_in_schema=False)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'self'"
_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_FRAME = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Outbox</title>
  <link rel="icon" href="data:,">
  <style>
    body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
    table { border-collapse: collapse; width: 100%; }
    th, td { text-align: start; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #ccc; }
    iframe { width: 100%; height: 36rem; border: 1px solid #ccc; }
    pre { white-space: pre-wrap; overflow-wrap: anywhere; }
    li { overflow-wrap: anywhere; }
  </style>
</head>
<body>
{% block content %}{% endblock %}
</body>
</html>
"""
_LIST = """{% extends "frame" %}{% block content %}
<h1>Outbox</h1>
<p>No mail server is set: mails are kept here, newest first.</p>
<table>
  <tr><th>To</th><th>Subject</th><th>Date</th></tr>
  {% for mail in mails %}
  <tr>
    <td>{{ mail.to }}</td>
    <td dir="auto"><a href="/outbox/{{ mail.id | urlencode }}">{{ mail.subject }}</a></td>
    <td>{{ mail.at.isoformat(" ", "seconds") }}</td>
  </tr>
  {% else %}
  <tr><td colspan="3">Nothing yet.</td></tr>
  {% endfor %}
</table>
{% endblock %}"""
_LETTER = """{% extends "frame" %}{% block content %}
<p><a href="/outbox">Outbox</a></p>
<h1 dir="auto">{{ letter.kept.subject }}</h1>
<p>To {{ letter.kept.to }}, {{ letter.kept.at.isoformat(" ", "seconds") }}</p>
<h2>Links</h2>
<ul>
  {% for link in links %}
  <li><a href="{{ link }}" rel="noreferrer">{{ link }}</a></li>
  {% endfor %}
</ul>
<h2>HTML</h2>
<iframe title="HTML" sandbox srcdoc="{{ letter.html }}"></iframe>
<h2>Text</h2>
<pre dir="auto">{{ letter.text }}</pre>
{% endblock %}"""
_pages = Environment(
    loader=DictLoader({"frame": _FRAME, "list": _LIST, "letter": _LETTER}), undefined=StrictUndefined, autoescape=True
)


async def _folder(request: Request) -> Path:
    """The outbox's folder; NotFound for everybody but a browser on this machine."""
    settings: Settings = request.app.state.settings
    folder = settings.shown_outbox
    client = request.client.host if request.client else ""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if folder is None or not (is_here(client) and is_here(host)) or any(h in request.headers for h in _PROXIED):
        raise NotFound
    return folder


Folder = Annotated[Path, Depends(_folder)]


@router.get("/outbox")
async def mails(folder: Folder) -> HTMLResponse:
    """The latest mails, newest first."""
    return _page("list", {"mails": await asyncio.to_thread(file_transport.kept_in, folder)})


@router.get("/outbox/{mail}")
async def mail(mail: str, folder: Folder) -> HTMLResponse:
    """One mail: its links, and both its forms."""
    letter = await asyncio.to_thread(file_transport.letter_in, folder, mail)
    if letter is None:
        raise NotFound
    links = [link for link in letter.links if link.startswith(("https://", "http://"))]
    return _page("letter", {"letter": letter, "links": links})


def _page(name: str, values: Mapping[str, Any]) -> HTMLResponse:
    headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
    return HTMLResponse(_pages.get_template(name).render(values), headers=headers)
