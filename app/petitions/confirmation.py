"""How signatures are confirmed: by mail, or not at all, which staff must choose in words.

Without confirmation anyone can sign as anyone, and what a stranger typed counts as the person's word. Once a petition
has taken such signatures they stay among its tallies: so `accept_unproven` stays true when it later confirms by mail,
and its public breakdowns stay coarse and late (`signatures/reading/published.py`).
"""

from typing import Literal

from pydantic import BaseModel

from app.kit.problems import Conflict, Invalid
from app.petitions.models import Petition


class UnprovenNotAccepted(Invalid):
    """Without confirmation by e-mail anyone can sign as anyone; who wants that says `accept_unproven: true`."""

    slug = "unproven-not-accepted"


class NothingUnproven(Invalid):
    """`accept_unproven: true` belongs to `confirmation: none` alone: by e-mail every signature is proven."""

    slug = "nothing-unproven"


class ConfirmationChosen(Conflict):
    """A petition that has been opened can be made to confirm by e-mail, but not the other way round."""

    slug = "confirmation-chosen"


class PetitionWarning(BaseModel):
    """What staff should know of a choice that they have made; `code` never changes."""

    code: Literal["unproven-signatures"]
    message: str


_UNPROVEN = PetitionWarning(
    code="unproven-signatures",
    message="Signatures under this petition are not proven: anyone can sign with anyone's address, and whoever moves "
    "the count by it learns whether that person had signed. Its public breakdowns are published hourly, for keys above "
    "50, in tens. Use `confirmation: email` wherever signing can put somebody at risk.",
)


def check_choice(confirmation: str, *, accept_unproven: bool) -> None:
    """The choice for a new petition; UnprovenNotAccepted, NothingUnproven."""
    if confirmation == "none" and not accept_unproven:
        raise UnprovenNotAccepted
    if confirmation != "none" and accept_unproven:
        raise NothingUnproven


def choose(petition: Petition, confirmation: str, *, accept_unproven: bool | None) -> None:
    """Change a locked petition's choice; UnprovenNotAccepted, NothingUnproven, ConfirmationChosen.

    `accept_unproven`: what this change says of it, None when it does not. What stood before needs no second word.
    """
    if accept_unproven is None:
        accept_unproven = confirmation == petition.confirmation == "none"
    check_choice(confirmation, accept_unproven=accept_unproven)
    if confirmation == petition.confirmation:
        return
    if confirmation == "none" and petition.state != "draft":
        raise ConfirmationChosen
    petition.confirmation = confirmation
    petition.accept_unproven = confirmation == "none" or petition.state != "draft"


def takes_unproven(petition: Petition) -> bool:
    """Whether its tallies may hold signatures that nobody has proven. The version before this one wrote no mark."""
    return petition.confirmation == "none" or petition.accept_unproven


def warnings_of(petition: Petition) -> list[PetitionWarning]:
    """What staff are told with every view of the petition."""
    return [_UNPROVEN] if takes_unproven(petition) else []
