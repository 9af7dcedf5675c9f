"""Health checks: whether the process is alive, and whether it is ready."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from app.kit.database.schema_version import current, head
from app.kit.problems import Unavailable

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """All is well."""

    status: Literal["ok"] = "ok"


class SchemaBehind(Unavailable):
    """The database's schema is not the one this version needs: run `multitude migrate`."""

    slug = "schema-behind"


class DatabaseUnreachable(Unavailable):
    """The database cannot be reached."""

    slug = "database-unreachable"


@router.get("/healthz")
async def healthz() -> Health:
    """The process is alive."""
    return Health()


@router.get("/readyz")
async def readyz(request: Request) -> Health:
    """The process can serve: the database answers and its schema is the one this version needs."""
    try:
        # A schema ahead of this code is fine: migrations run while the previous version is still serving.
        if (await current(request.app.state.services.database) or "") < head():
            raise SchemaBehind
    except (SQLAlchemyError, OSError):
        raise DatabaseUnreachable from None
    return Health()
