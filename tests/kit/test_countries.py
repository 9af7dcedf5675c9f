"""The list of countries, held against an independent one."""

import pycountry
import pytest
from pydantic import TypeAdapter, ValidationError

from app.kit.text.countries import COUNTRIES, Country

_country = TypeAdapter(Country)


def test_the_list_is_that_of_iso_3166_1_and_kosovo() -> None:
    assert {country.alpha_2 for country in pycountry.countries} | {"XK"} == COUNTRIES


def test_a_country_may_be_written_small() -> None:
    assert _country.validate_python("ug") == "UG"


@pytest.mark.parametrize("wrong", ["", "U", "UGA", "UK", "EU", "ZZ", "AN", "U ", "ÜG", 256, None])
def test_anything_else_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        _country.validate_python(wrong)
