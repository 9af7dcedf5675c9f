"""The answer of a route whose act waits."""

from typing import Any

from fastapi.responses import JSONResponse

from app.organizations.models import PendingAct
from app.organizations.pending_acts.schemas import PendingActView

# For the route's description.
MAY_WAIT: dict[int | str, dict[str, Any]] = {
    202: {"model": PendingActView, "description": "It waits a day, or for a second person's word"}
}


class Accepted(JSONResponse):
    """202, and where to look."""

    def __init__(self, act: PendingAct) -> None:
        view = PendingActView.model_validate(act).model_dump(mode="json")
        headers = {"Location": f"/v1/pending-acts/{act.id}", "Cache-Control": "no-store"}
        super().__init__(view, 202, headers)
        # Read by the audit log's entry (`audit/declaration.py`).
        self.pending_act_id = act.id
