"""Signing, confirming, withdrawing and counting over HTTP.

The routes of `signing_router` are called by a multitude: the fast lane (`kit/web/fast_lane.py`) goes straight to them.
Both routers are ordinary ones.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.kit import room_interface
from app.kit.abuse.client_addresses import client_address
from app.kit.database.session import Session
from app.kit.problems import Forbidden, Unauthorized
from app.kit.settings import KIBIBYTE
from app.kit.web.asgi import STREAMING, Message, Receive, Scope, Send
from app.kit.web.bodies import json_body, longest_body, read_body
from app.kit.web.caching import cached
from app.organizations.auth import KEY_OPTIONAL, Caller
from app.people.pseudonyms import own_signature_id
from app.petitions import queries as petitions
from app.petitions.directory import Entry
from app.petitions.service import PetitionNotFound
from app.signatures import service
from app.signatures.dimensions import BY_NAME
from app.signatures.engine.signings import Signing
from app.signatures.reading.breakdown import as_csv
from app.signatures.reading.minutes import staff_view
from app.signatures.schemas import (
    ChallengeView,
    ConfirmationBody,
    ConfirmationView,
    CountView,
    DimensionName,
    SignatureView,
    SigningBody,
    TallyView,
    WithdrawalBody,
    WithdrawalView,
)
from app.signatures.services import SigningServices
from app.signatures.signing.sealing import write_proven_receipt, write_receipt

# Bytes: a comment of 2,000 letters outside the Latin alphabet, all of them escaped, and twenty consents.
_LONGEST_SIGNING = 32 * KIBIBYTE
_LONGEST_CONFIRMATION = 2 * KIBIBYTE

signing_router = APIRouter(tags=["signatures"])
router = APIRouter(tags=["signatures"])


def signing_services(request: Request) -> SigningServices:
    """This process's services for signing."""
    return room_interface.services(request).of(SigningServices)


Services = Annotated[SigningServices, Depends(signing_services)]


@signing_router.post(
    "/v1/petitions/{petition}/signatures",
    status_code=201,
    response_model=SignatureView,
    openapi_extra=json_body(SigningBody),
)
@longest_body(_LONGEST_SIGNING)
async def sign(request: Request, petition: str) -> Response:
    """Sign a petition. The answer comes when the signature is committed; signing twice counts once and looks alike."""
    services = signing_services(request)
    body = await read_body(request, SigningBody, _LONGEST_SIGNING)
    address = client_address(request.scope, services.protection.proxies)
    entry, signing = await service.sign(services, petition, body, address)
    return Response(_answer(services, entry, signing), 201, media_type="application/json")


def _answer(services: SigningServices, entry: Entry, signing: Signing) -> str:
    """A `SignatureView`, written as text: nothing in it needs escaping, and every signer waits for it.

    The status is that of a first signing here, even if this is a second one, or one that was put on hold.
    """
    status = "pending" if entry.confirmation == "email" else "confirmed"
    receipt = write_receipt(services.ring, signing.petition_id, signing.signer, signing.id)
    id_, at = own_signature_id(services.ring, signing.id), f"/v1/petitions/{entry.slug}"
    return (
        f'{{"id":"{id_}","status":"{status}","receipt":"{receipt}","links":{{"petition":"{at}",'
        f'"count":"{at}/count","stream":"{at}/stream","withdraw":"{at}/withdrawals"}}}}'
    )


@signing_router.post("/v1/confirmations", response_model=ConfirmationView, openapi_extra=json_body(ConfirmationBody))
@longest_body(_LONGEST_CONFIRMATION)
async def confirm(request: Request) -> Response:
    """Confirm what the mailed link was sent for; doing it again changes nothing, and is answered alike for 30 days.

    Show the person first what they confirm (`POST /v1/confirmations/preview`), with a box for each consent.
    """
    body = await read_body(request, ConfirmationBody, _LONGEST_CONFIRMATION)
    services = signing_services(request)
    link = await service.confirm(services, body.token, body.consents)
    at = f"/v1/petitions/{link.petition_id}"
    links = f'{{"petition":"{at}","count":"{at}/count","stream":"{at}/stream","withdraw":"{at}/withdrawals"}}'
    receipt = write_proven_receipt(services.ring, link.petition_id, link.signer, link.id)
    return Response(f'{{"status":"confirmed","receipt":"{receipt}","links":{links}}}', media_type="application/json")


@signing_router.get("/v1/petitions/{petition}/count", response_model=CountView)
async def count(request: Request, petition: str) -> Response:
    """Just the count: own signatures at once, those of other processes within a second."""
    services = signing_services(request)
    entry = services.directory.peek(petition) or await service.find(services, petition)
    signature_count = services.counts.peek(entry.id)
    if signature_count is None:
        signature_count = await services.counts.get(entry.id)
    etag = f'"{signature_count}-{entry.signature_goal}"'
    headers = {"etag": etag, "cache-control": "public, max-age=0, s-maxage=1, stale-while-revalidate=5"}
    # A proxy that compresses turns the tag into a weak one (W/...); it stands for the same count.
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = f'{{"signature_count":{signature_count},"signature_goal":{entry.signature_goal}}}'
    return Response(body, headers=headers, media_type="application/json")


@router.get("/v1/petitions/{petition}/challenge", response_model=ChallengeView)
async def challenge(services: Services, response: Response, petition: str) -> dict[str, Any]:
    """A piece of work for whoever wants to sign a petition whose `challenge` is `altcha`; good once."""
    entry = await service.find(services, petition)
    response.headers["Cache-Control"] = "no-store"
    return services.challenges.make(str(entry.id))


@router.post("/v1/petitions/{petition}/withdrawals")
async def withdraw(services: Services, petition: str, body: WithdrawalBody) -> WithdrawalView:
    """Withdraw what this receipt came with; its personal data is destroyed. Whatever became of the petition."""
    entry = services.directory.peek(petition)
    id_ = entry.id if entry else await service.id_of(services, petition)
    if id_ is None:
        raise PetitionNotFound
    try:
        await service.withdraw(services, id_, body.receipt)
    except service.UnknownReceipt:
        # A petition that is not public looks as if it were not there, but to those who have signed it.
        await service.find(services, petition)
        raise
    return WithdrawalView()


@router.get(
    "/v1/petitions/{petition}/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream(
    request: Request, services: Services, petition: str, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    """Counts as they change, as server-sent events named `count`."""
    entry = await service.find(services, petition)
    client = services.protection.client_key(request.scope)
    return _Stream(services.streams.follow(entry, last_event_id), services.streams.admit(client))


class _Stream(StreamingResponse):
    """Events, for as long as there is a place for them: it is taken when the answer begins, and given back at its end.

    Not by the events themselves: of a client that has left before the first they are never asked for.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], place: AbstractContextManager[None]) -> None:
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def leave_turn_after_head(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start" and STREAMING in scope:
                scope[STREAMING]()

        with self._place:
            await super().__call__(scope, receive, leave_turn_after_head)


@router.get(
    "/v1/petitions/{petition}/tally",
    response_model=TallyView,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    openapi_extra=KEY_OPTIONAL,
)
async def tally(
    request: Request,
    services: Services,
    session: Session,
    caller: Caller,
    petition: str,
    by: Annotated[DimensionName, Query()],
) -> Response:
    """A breakdown, JSON or (by `Accept: text/csv`) CSV. Country and hour are public, with small keys folded.

    Staff see exact tallies as of a minute. Of petitions that take unproven signatures the public is told hourly, of
    keys above 50, in tens.
    """
    if caller is not None and caller.is_staff:
        found = await petitions.find(session, petition, caller)
        if found is None:
            raise PetitionNotFound
        return _shaped(request, await staff_view(session, found.id, by), private=True)
    if not BY_NAME[by].is_public:
        raise Forbidden if caller is not None else Unauthorized
    entry = await service.find(services, petition)
    view = await services.breakdowns.get((entry.id, by))
    assert view is not None
    return _shaped(request, view, private=False)


def _shaped(request: Request, view: TallyView, *, private: bool) -> Response:
    if "text/csv" in request.headers.get("accept", ""):
        headers = {
            "vary": "Accept, Authorization",
            "cache-control": "private, no-store" if private else "public, max-age=5",
        }
        return Response(as_csv(view), media_type="text/csv; charset=utf-8", headers=headers)
    return cached(
        request,
        view.model_dump_json().encode(),
        max_age=5,
        shared_max_age=5,
        private=private,
        headers={"vary": "Accept, Authorization"},
    )
