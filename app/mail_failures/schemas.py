"""What staff are shown of mail failures, and ask of them."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from app.kit.database.paging import Paging
from app.kit.text.fields import View

State = Literal["waiting", "failed"]


class MailFailurePaging(Paging):
    """What staff ask of the list."""

    cursor: Annotated[str | None, Query(max_length=200)] = None
    state: Annotated[State | None, Query(description="`waiting`: to be tried again; `failed`: never sent")] = None


class MailFailureView(View):
    """How many mails of one kind were not sent for one reason. Each counts under the reason it failed for last."""

    source: Annotated[str, Field(description="whose mails: `signatures`, `people`, `endpoints`")]
    kind: Annotated[str, Field(examples=["confirm_signature"])]
    state: State
    reason: Annotated[str, Field(examples=["smtp-auth-failed", "smtp-refused-recipient-550"])]
    advice: Annotated[str | None, Field(description="what an operator can do about it; null: it is the recipient's")]
    mail_count: int
    first_failed_at: datetime
    last_failed_at: datetime
