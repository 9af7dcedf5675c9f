"""Regions: known by their names and codes, however they are spelt."""

import pytest

from app.kit.text.folding import folded
from app.kit.text.regions import region_name


@pytest.mark.parametrize(
    ("country", "text", "name"),
    [
        ("UG", "Kampala", "Kampala"),
        ("UG", "KAMPALA", "Kampala"),
        ("UG", "UG-102", "Kampala"),
        ("US", "CA", "California"),
        ("US", "us-ca", "California"),
        ("FR", "cote d\u2019or", "Côte-d'Or"),
        ("FR", "Ile de France", "Île-de-France"),
        ("DE", "Baden Wurttemberg", "Baden-Württemberg"),
        ("GB", "Caerdydd", "Cardiff"),
        ("GB", "Cardiff", "Cardiff"),
    ],
)
def test_a_region_is_found_however_it_is_spelt(country: str, text: str, name: str) -> None:
    assert region_name(country, text) == name


@pytest.mark.parametrize(
    ("country", "text"),
    [("UG", "Amina Okello"), ("UG", ""), ("UG", "-"), ("KE", "Kampala"), ("XK", "Prishtina"), ("ZZ", "Kampala")],
)
def test_what_is_on_no_list_of_this_country_is_none(country: str, text: str) -> None:
    assert region_name(country, text) is None


def test_folding_keeps_letters_and_digits() -> None:
    assert folded(" Côte-d\u2019Or, No. 7 ") == "cotedorno7"
    assert folded("ὈΔΥΣΣΕΎΣ") == folded("ὀδυσσεύς")
