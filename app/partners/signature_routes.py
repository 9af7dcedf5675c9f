"""Signatures that partners post, by Standard Webhooks."""

from fastapi import APIRouter

router = APIRouter(tags=["partners"])
