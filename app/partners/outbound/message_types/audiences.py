"""The rules by which a partner may hear of an outbox row; the movement hears of all that is not another's alone.

They are SQL about `m`, the outbox row; `o`, the organization; and `p`, the petition that the row's content names as
`petition_id`, if it names one.
"""

from collections.abc import Mapping

from app.kit.webhooks.message_types import MessageTypes
from app.partners.partnerships.terms import has_partnership

_MAY_HAVE_RECEIVED = has_partnership("o.id", "p", "'active', 'ended'", receiving=True)

RULES: Mapping[str, str] = {
    "everybody": "true",
    "movement": "false",
    # Its active partnership covers the petition.
    "covered": has_partnership("o.id", "p"),
    # It brought the signature, as the content says by `brought`, or may have been told of it.
    "brought_or_received": f"(m.brought OR {_MAY_HAVE_RECEIVED})",
}


def may_hear() -> str:
    """SQL: whether the organization may hear of the outbox row, by the row's `rule`."""
    by_rule = " OR ".join(f"m.rule = '{name}' AND {condition}" for name, condition in RULES.items())
    return f"(o.kind = 'movement' OR {by_rule})"


def require_known_rules(types: MessageTypes) -> None:
    """ValueError when a type has an audience by a rule that is not known here."""
    for one in types:
        if one.audience is not None and one.audience.rule not in RULES:
            raise ValueError(f"{one.name}: there is no rule of an audience of the name {one.audience.rule}")
