"""How a route says what it is in the audit log. A test of the house asks every route that takes a key to say so."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import column, select, table
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.database.session import Base, Session
from app.kit.text.fields import as_id
from app.organizations.audit.chain import Act, append
from app.organizations.auth import Caller
from app.organizations.models import Category

P = ParamSpec("P")
R = TypeVar("R")
_CALLER, _SESSION = "audit_caller", "audit_session"
_LONGEST_REFERENCE = 64


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a route enters. `param`: the path's parameter that names the object; without one it is what was made."""

    verb: str
    object_kind: str
    param: str
    category: Category
    count: Callable[[Any], int] | None


def audited(
    verb: str,
    object_kind: str = "",
    *,
    param: str = "",
    category: Category = "act",
    count: Callable[[Any], int] | None = None,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Enter each call of this route that succeeds, in its own transaction; stands below the route's decorator.

    The verb is written `kind.verb`, and its kind is the object's unless another is named. An answer with `items` counts
    as many rows, any other as `count` says, or as one; a body's named fields are entered by name, and its `reason` in
    words.
    """
    kind = object_kind or verb.partition(".")[0]
    declared = Declaration(verb, kind, param or kind, category, count)

    def declare(route: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        async def entered(**given: Any) -> R:
            caller, session = given.pop(_CALLER), given.pop(_SESSION)
            result = await route(**given)  # type: ignore[call-arg]
            # Who came without a key was shown what everybody is.
            if caller is not None:
                await append(session, caller, await _act(session, declared, given, result))
            return result

        update_wrapper(entered, route)
        del entered.__wrapped__  # type: ignore[attr-defined]
        vars(entered).update(audit=declared, __signature__=_with_caller_and_session(route))
        return entered  # type: ignore[return-value]

    return declare


def declaration_of(route: Callable[..., Any]) -> Declaration | None:
    """What this route says of itself; None when it says nothing."""
    found: Declaration | None = getattr(route, "audit", None)
    return found


def _with_caller_and_session(route: Callable[..., Any]) -> inspect.Signature:
    """The route's signature with two more dependencies. It has them mostly already: FastAPI solves them once."""
    signature = inspect.signature(route)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
        for name, annotation in ((_CALLER, Caller), (_SESSION, Session))
    ]
    return signature.replace(parameters=[*signature.parameters.values(), *more])


async def _act(session: AsyncSession, declared: Declaration, given: Mapping[str, Any], result: Any) -> Act:
    body = given.get("body")
    waits: UUID | None = getattr(result, "pending_act_id", None)
    return Act(
        declared.verb,
        declared.object_kind,
        await _object_id(session, declared, given, result),
        category="request" if waits else declared.category,
        row_count=1 if waits else (declared.count or _row_count)(result),
        fields=sorted(body.model_fields_set) if isinstance(body, BaseModel) else (),
        reason=getattr(body, "reason", None),
        pending_act_id=waits,
    )


def _row_count(result: Any) -> int:
    items = result.get("items") if isinstance(result, dict) else getattr(result, "items", None)
    return len(items) if isinstance(items, list) else 1


async def _object_id(session: AsyncSession, declared: Declaration, given: Mapping[str, Any], result: Any) -> str | None:
    named = given.get(declared.param)
    id_ = getattr(named if named is not None else result, "id", None)
    if not isinstance(named, str):
        return str(id_) if isinstance(id_, UUID) else None
    found = as_id(named)
    if found is None:
        return await _id_of_slug(session, f"{declared.object_kind}s", named)
    return str(found)


async def _id_of_slug(session: AsyncSession, name: str, slug: str) -> str | None:
    """The id of what has this slug in the table of its kind. What has no table of slugs stands by its own name."""
    model = Base.metadata.tables.get(name)
    if model is None or "slug" not in model.c:
        return slug[:_LONGEST_REFERENCE]
    of_slug = table(name, column("id"), column("slug"))
    found: UUID | None = await session.scalar(select(of_slug.c.id).where(of_slug.c.slug == slug))
    return str(found) if found else None
