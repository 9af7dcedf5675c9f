"""The one clock."""

from datetime import UTC, datetime, timedelta

from app.kit.clock import now


def test_the_present_is_aware_and_in_utc() -> None:
    assert now().tzinfo is UTC
    assert abs(now() - datetime.now(UTC)) < timedelta(seconds=5)
