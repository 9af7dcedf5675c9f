"""The preview page: it shows the mails that would have been sent, to whoever develops without a mail server.

It shows links by which anybody can be confirmed and signed in. So it exists only where mails are stored and not sent,
where nobody else is served (`PUBLIC_URL` is this machine), and only for a browser on this machine. A request that comes
through a proxy is refused, and so is one whose Host is another name: a page elsewhere could give its own name this
machine's address. A proxy need not say that it is one, and may name this machine as the host: hence `PUBLIC_URL`.
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
from app.kit.mail.settings import MailSettings
from app.kit.problems import NotFound
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
_MAIL = """{% extends "frame" %}{% block content %}
<p><a href="/outbox">Outbox</a></p>
<h1 dir="auto">{{ parsed.stored.subject }}</h1>
<p>To {{ parsed.stored.to }}, {{ parsed.stored.at.isoformat(" ", "seconds") }}</p>
<h2>Links</h2>
<ul>
  {% for link in links %}
  <li><a href="{{ link }}" rel="noreferrer">{{ link }}</a></li>
  {% endfor %}
</ul>
<h2>HTML</h2>
<iframe title="HTML" sandbox srcdoc="{{ parsed.html }}"></iframe>
<h2>Text</h2>
<pre dir="auto">{{ parsed.text }}</pre>
{% endblock %}"""
_pages = Environment(
    loader=DictLoader({"frame": _FRAME, "list": _LIST, "mail": _MAIL}), undefined=StrictUndefined, autoescape=True
)


async def _folder(request: Request) -> Path:
    """The folder of the stored mails; NotFound for everybody but a browser on this machine."""
    settings: MailSettings = request.app.state.services.settings
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
    return _page("list", {"mails": await asyncio.to_thread(file_transport.list_mails, folder)})


@router.get("/outbox/{mail}")
async def mail(mail: str, folder: Folder) -> HTMLResponse:
    """One mail: its links, its HTML and its text."""
    parsed = await asyncio.to_thread(file_transport.read_mail, folder, mail)
    if parsed is None:
        raise NotFound
    links = [link for link in parsed.links if link.startswith(("https://", "http://"))]
    return _page("mail", {"parsed": parsed, "links": links})


def _page(name: str, values: Mapping[str, Any]) -> HTMLResponse:
    headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
    return HTMLResponse(_pages.get_template(name).render(values), headers=headers)
