"""An ordinary FastAPI application that validates a signature and does nothing with it."""

from fastapi import FastAPI

from app.signatures.schemas import SigningBody

app = FastAPI()


@app.post("/v1/petitions/{petition}/signatures", status_code=201)
async def sign(petition: str, body: SigningBody) -> dict[str, bool]:  # noqa: ARG001 - validated, then ignored
    return {"ok": True}


@app.get("/nothing")
async def nothing() -> dict[str, bool]:
    return {"ok": True}
