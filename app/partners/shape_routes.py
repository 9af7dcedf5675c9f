"""Signatures in the shapes of other systems' webhooks."""

from fastapi import APIRouter

router = APIRouter(tags=["partners"])
