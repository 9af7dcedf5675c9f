"""What signers type may stand in clear only where everybody could have typed it: regions and sources that are listed.

Both are tallied, so they are stored in clear. A free text there could name somebody: so only what is on a known list,
or what staff have allowed for the petition, stays as it is. All else is sealed with the signature and tallied as
`other`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.kit.text.folding import folded
from app.kit.text.regions import region_name
from app.petitions.models import Petition

OTHER = "other"

# How campaigns name the ways that lead to a petition (`utm_source` and `utm_medium`, as they are used).
_KNOWN_SOURCES = """
    ads affiliate app banner blog bluesky direct discord display email event facebook flyer friend google instagram
    letter linkedin mail mastodon messenger newsletter organic other paper partner phone podcast poster press print qr
    radio reddit referral search share signal sms social stall street telegram threads tiktok tv twitter viber website
    wechat whatsapp widget x youtube
"""
KNOWN_SOURCES = {folded(name): name for name in _KNOWN_SOURCES.split()}


@dataclass(frozen=True, slots=True)
class ClearText:
    """What one petition's signers may say in clear: by its folded form what staff have allowed, and the known lists."""

    regions: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=lambda: KNOWN_SOURCES)

    def region(self, country: str, text: str) -> str:
        """The region as it is stored: as staff or ISO 3166-2 spell it, or `other`; "" for none."""
        if not text:
            return ""
        allowed = self.regions.get(folded(text)) if self.regions else None
        return allowed or region_name(country, text) or OTHER

    def source(self, text: str, otherwise: str = OTHER) -> str:
        """The source as it is stored: as staff or the known list spell it, or `otherwise`; "" for none."""
        if not text:
            return ""
        return self.sources.get(text) or self.sources.get(folded(text)) or otherwise


def clear_text_of(petition: Petition) -> ClearText:
    """What the signers of this petition may say in clear."""
    if not petition.allowed_regions and not petition.allowed_sources:
        return KNOWN
    sources = KNOWN_SOURCES | _by_folded(petition.allowed_sources or ())
    return ClearText(_by_folded(petition.allowed_regions or ()), sources)


def _by_folded(names: Iterable[str]) -> dict[str, str]:
    return {folded(name): name for name in names}


# Where staff have allowed nothing more.
KNOWN = ClearText()
