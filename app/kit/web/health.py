"""Health checks and metrics: whether the process is alive, whether it is ready, and what it has counted."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from app.kit import metrics
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


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def show_metrics() -> Response:
    """Metrics in Prometheus' text format."""
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
