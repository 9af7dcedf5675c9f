"""Petitions signed by millions, made by SQL: rows as `signatures/engine/insert.py` writes them, tallies to match."""

from collections.abc import Callable

from app.signatures.dimensions import DIMENSIONS
from tests.support.postgres import SqlDatabase

_CHUNK = 250_000
# 16 bytes of digest in no order, and as many sealed bytes as a person with a postal code and a locale takes.
_ROWS = """
    INSERT INTO signatures
        (petition_id, signer, id, signed_at, country, state, region, source, group_id, event_id, sealed)
    SELECT p.id, decode(md5(n || ' ' || p.id), 'hex'), gen_random_uuid(), now() - n * interval '0.3 seconds',
        (ARRAY['GB', 'FR', 'ES', 'US', 'DE', 'UG', 'KE'])[n % 7 + 1], 'confirmed', '', '', NULL, NULL,
        decode(repeat(md5(n::text), 7) || '0123456789abcdef', 'hex')
    FROM petitions p, generate_series({first}, {last}) AS n WHERE p.slug = '{slug}'
"""
# As written through the highest lane: by another process than those that run now.
_TALLY = """
    INSERT INTO signature_tallies (petition_id, dimension, key, lane, signature_count)
    SELECT petition_id, '{dimension}', {key}, 255, count(*) FROM signatures
    WHERE petition_id = (SELECT id FROM petitions WHERE slug = '{slug}') AND state = 'confirmed'
    GROUP BY 1, 3
"""


def fill(database: SqlDatabase, slug: str, signature_count: int, say: Callable[[str], None]) -> None:
    """Let a petition without signatures have this many, and everything that belongs to them."""
    for first in range(1, signature_count + 1, _CHUNK):
        say(f"making a petition of {signature_count:,} signatures: {first - 1:,} so far")
        last = min(first + _CHUNK - 1, signature_count)
        database.run(_ROWS.format(first=first, last=last, slug=slug))
    say(f"making a petition of {signature_count:,} signatures: tallies")
    for dimension in DIMENSIONS:
        database.run(_TALLY.format(dimension=dimension.name, key=dimension.sql, slug=slug))
    say(f"making a petition of {signature_count:,} signatures: vacuum and checkpoint")
    database.run("VACUUM (ANALYZE) signatures", "VACUUM (ANALYZE) signature_tallies", "CHECKPOINT")
