"""The times of a petition: which ones go together."""

from datetime import date, datetime

from app.kit.problems import Invalid


class WrongTimes(Invalid):
    """The petition cannot open and close at these times."""

    slug = "wrong-times"


def check_times(opens_at: datetime | None, closes_at: datetime | None, moment: datetime) -> None:
    """A petition closes in the future, and after it opens; WrongTimes."""
    if closes_at is None:
        return
    if closes_at <= moment:
        raise WrongTimes("`closes_at` must be in the future; an open petition is closed at once by `/close`.")
    if opens_at is not None and closes_at <= opens_at:
        raise WrongTimes("`closes_at` must be after `opens_at`.")


def check_ahead(personal_data_until: date | None, moment: datetime) -> None:
    """Destroyed data is gone for good: a mistyped day can still be corrected until tomorrow. WrongTimes."""
    if personal_data_until is not None and personal_data_until <= moment.date():
        raise WrongTimes("`personal_data_until` must be after today (UTC).")


def check_day(closes_at: datetime | None, personal_data_until: date | None) -> None:
    """Nothing is destroyed while people can still sign; WrongTimes."""
    if closes_at is not None and personal_data_until is not None and personal_data_until < closes_at.date():
        raise WrongTimes("`personal_data_until` must not be before the day of `closes_at`.")
