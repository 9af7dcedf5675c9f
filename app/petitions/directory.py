"""The petition directory: a cache of what signing must know of a petition, many petitions in one query.

The directory may refuse a signature early, but never accept one: the inserting statement itself decides that, with the
same `ACCEPTING` condition, in its transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import or_, select, true

from app.kit.database.coalescing import CoalescingReader
from app.kit.database.session import Database
from app.kit.text.fields import as_id
from app.petitions.clear_text import ClearText, clear_text_of
from app.petitions.models import Petition
from app.petitions.queries import ACCEPTING, STATE_NOW

Directory = CoalescingReader[str, "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A public petition as it was at one moment."""

    id: UUID
    slug: str
    state: str
    accepting: bool
    allowed_countries: frozenset[str] | None
    clear_text: ClearText
    confirmation: str
    challenge: str
    address_limit: int | None
    signature_goal: int

    def accepts(self, country: str) -> bool:
        """Whether somebody from this country may sign now, as far as this snapshot knows."""
        return self.accepting and (self.allowed_countries is None or country in self.allowed_countries)


def open_directory(database: Database) -> Directory:
    """Petitions by id or slug, at most a second old; one query at a time, however many ask."""

    async def read(refs: Sequence[str]) -> Mapping[str, Entry]:
        ids = [id_ for id_ in map(as_id, refs) if id_]
        # PostgreSQL refuses a text with a NUL in it; no slug has one.
        slugs = [ref for ref in refs if "\0" not in ref]
        query = select(Petition, ACCEPTING.label("accepting"), STATE_NOW.label("state_now")).where(
            or_(Petition.slug.in_(slugs), Petition.id.in_(ids) if ids else ~true()),
            Petition.moderation == "approved",
            STATE_NOW != "draft",
        )
        async with database.transaction() as session:
            rows = (await session.execute(query)).all()
        entries = [_entry(petition, accepting=accepting, state=state) for petition, accepting, state in rows]
        named: dict[object, Entry] = {entry.slug: entry for entry in entries} | {entry.id: entry for entry in entries}
        return {ref: named[key] for ref in refs if (key := as_id(ref) or ref) in named}

    return CoalescingReader(read)


def _entry(petition: Petition, *, accepting: bool, state: str) -> Entry:
    return Entry(
        id=petition.id,
        slug=petition.slug,
        state=state,
        accepting=accepting,
        allowed_countries=frozenset(petition.allowed_countries) if petition.allowed_countries else None,
        clear_text=clear_text_of(petition),
        confirmation=petition.confirmation,
        challenge=petition.challenge,
        address_limit=petition.address_limit,
        signature_goal=petition.signature_goal,
    )
