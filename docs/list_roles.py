"""Write `roles.md`: whose key each route lets pass, read off the routes. Run: `python docs/list_roles.py`.

A test checks that the committed table is current, and another one calls every route with every role.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from app.main import create_api
from app.organizations.auth import roles_of
from app.organizations.principals import PERSON, STAFF_ROLES
from app.settings import Settings

PAGE = Path(__file__).parent / "roles.md"
_COLUMNS = (*STAFF_ROLES, "partner", PERSON)
_HEAD = """# Who may call what

Written by `python docs/list_roles.py` from the routes themselves. "anyone": no key is needed, though one may show more.
"signature": no key opens it, but a signed webhook or another system's token. What a key that passes may then see is
decided in the room: a partner sees its own organization and no other.

"""


def table(api: FastAPI) -> str:
    """The page for this application."""
    rows = [
        "| call | " + " | ".join((*_COLUMNS, "without a key")) + " |",
        "|---" * (len(_COLUMNS) + 2) + "|",
        *_rows(api),
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _rows(api: FastAPI) -> Iterator[str]:
    for route, call in _calls(api):
        roles = roles_of(route.dependant)
        # Routes that ask for no key say whether they take one.
        secured = (api.openapi()["paths"][call.split()[1]][call.split()[0].lower()]).get("security", [{}])
        otherwise = "anyone" if {} in secured else "" if roles else "signature"
        cells: Sequence[str] = ["yes" if roles and column in roles else "" for column in _COLUMNS]
        yield f"| `{call}` | " + " | ".join((*cells, otherwise)) + " |"


def _calls(api: FastAPI) -> Iterator[tuple[APIRoute, str]]:
    for context in iter_route_contexts(api.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in sorted(context.methods or ()):
                yield route, f"{method} {context.path}"


if __name__ == "__main__":
    settings = Settings.model_validate({"database_url": "postgresql://unused", "secret_keys": "-" * 32})
    PAGE.write_text(table(create_api(settings)))
