"""The API's documentation page (Swagger UI), with all its files: a reader's browser fetches nothing elsewhere."""

import json
from functools import cache
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from app.kit.problems import NotFound

router = APIRouter(include_in_schema=False)

_FILES = Path(fastapi_offline.__file__).parent / "static"
_SERVED = {"swagger-ui.css", "swagger-ui-bundle.js"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Multitude API</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="/docs/swagger-ui-bundle.js"></script>
  <script src="/docs/start.js"></script>
</body>
</html>
"""
_START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n'


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The description of this API, OpenAPI 3.1."""
    return Response(_description(request.app), media_type="application/json")


@cache
def _description(api: object) -> bytes:
    return json.dumps(api.openapi()).encode()  # type: ignore[attr-defined]


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The description, for a person."""
    return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})


@router.get("/docs/{file}")
async def docs_file(file: str) -> Response:
    """What the page consists of."""
    if file == "start.js":
        return Response(_START, media_type="text/javascript")
    if file not in _SERVED:
        raise NotFound
    return FileResponse(_FILES / file)
