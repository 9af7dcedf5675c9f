"""Those who consented to a partner, for it to pull."""

from fastapi import APIRouter

router = APIRouter(tags=["partners"])
