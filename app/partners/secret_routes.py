"""Secrets for webhooks that come in, over HTTP."""

from fastapi import APIRouter

router = APIRouter(tags=["partners"])
