"""The desk: what this process needs to take in what partners bring."""

from dataclasses import dataclass

from fastapi import Request

from app.kit.db import Database
from app.kit.sealing import KeyRing
from app.kit.settings import Settings
from app.signatures.hot import HotRoom


@dataclass(frozen=True)
class Desk:
    """One per process."""

    settings: Settings
    database: Database
    ring: KeyRing
    room: HotRoom


def open_desk(settings: Settings, database: Database, room: HotRoom) -> Desk:
    """Ready to take in what comes."""
    return Desk(settings, database, settings.key_ring, room)


def desk_of(request: Request) -> Desk:
    """This process's desk."""
    desk: Desk = request.app.state.desk
    return desk
