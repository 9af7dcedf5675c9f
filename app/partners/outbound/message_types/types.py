"""The message types that partners are told of, each one record.

To add one: the record here, with its content model (`contents.py`: what the outbox row holds), its payload model
(`schemas.py`) and its writer (`payloads.py`: what is told, from what is true when it is sent); a rule in `audiences.py`
only if no rule there fits. The room in which it happens publishes the outbox row. Then `make openapi`, and an example
in `docs/partners.md`. End the old workers first: one that does not know a type drops its outbox rows.

Types about petitions, people and signatures are here, since what is told of them depends on partnerships; a room above
partners brings its own in its `room.py`.
"""

from app.kit.webhooks.message_types import Audience, MessageType
from app.partners.outbound.message_types import contents, payloads, schemas
from app.people.consents.service import CONSENT_GIVEN
from app.people.personal_data.data_rights import PERSON_ERASED
from app.petitions.outbox import CLOSED, MILESTONE_REACHED, PUBLISHED
from app.signatures.background.withdrawal_messages import SIGNATURE_WITHDRAWN

# Made by the feed, of the consents that it has numbered.
COUNTED = "signature.counted"
# Asked for by whoever set the endpoint up.
TEST = "webhook.test"

# What the rules mean, `audiences.py` says.
_COVERED = Audience("covered")
_ADDRESSEE = Audience(is_addressed=True)

MESSAGE_TYPES = (
    MessageType(
        name=PUBLISHED,
        description="a petition has opened for signatures",
        content=contents.PetitionContent,
        audience=_COVERED,
        payload=schemas.PetitionPublished,
        write=payloads.write_petitions,
    ),
    MessageType(
        name=MILESTONE_REACHED,
        description="a petition has reached a milestone",
        content=contents.MilestoneContent,
        audience=_COVERED,
        payload=schemas.PetitionMilestoneReached,
        write=payloads.write_petitions,
    ),
    MessageType(
        name=CLOSED,
        description="a petition takes no more signatures",
        content=contents.PetitionContent,
        audience=_COVERED,
        payload=schemas.PetitionClosed,
        write=payloads.write_petitions,
    ),
    MessageType(
        name=COUNTED,
        description="up to 500 signatures of persons who consent to your organization",
        outbox_type=CONSENT_GIVEN,
        content=contents.ConsentContent,
        audience=_ADDRESSEE,
        is_ordered=True,
        payload=schemas.SignatureCounted,
        write=payloads.write_signers,
    ),
    MessageType(
        name=SIGNATURE_WITHDRAWN,
        description="a signature that you brought, or may have been told of, was withdrawn",
        content=contents.WithdrawalContent,
        audience=Audience("brought_or_received", is_addressed=True),
        is_ordered=True,
        payload=schemas.SignatureWithdrawn,
        write=payloads.write_withdrawals,
    ),
    MessageType(
        name=PERSON_ERASED,
        description="a person whom you brought, or who ever agreed to hear from you, was erased: erase them too",
        content=contents.ErasureContent,
        audience=_ADDRESSEE,
        merged_by="person_id",
        is_ordered=True,
        payload=schemas.PersonErased,
        write=payloads.write_erasures,
    ),
    MessageType(
        name=TEST,
        description="a message that says nothing, sent because somebody asked for it",
        is_subscribable=False,
        payload=schemas.WebhookTest,
        write=payloads.write_tests,
    ),
)
