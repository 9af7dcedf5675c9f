"""Endpoints, the messages they are sent, and the attempts, over HTTP."""

from fastapi import APIRouter

router = APIRouter(tags=["partners"])
