"""OSDI: petitions to read, and the helper that records a signature."""

from fastapi import APIRouter

router = APIRouter(tags=["partners"])
