"""Distinct people, made from their number alone, so that millions of them need no memory."""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from math import gcd

_GIVEN = (
    "Amina José Siobhán Wanjiru Łukasz Mei Noah Priya Fatoumata Ana Jürgen Olivia George Zainab Mateo Chloé "
    "Ravi Ingrid Kwame Sofía Dmitri Aoife Tomás Nkechi Elif"
).encode()
_FAMILY = (
    "Okello García Murphy Mwangi Nowak Chen Smith Sharma Diallo Silva Müller Rossi Ivanova Jones O'Brien "
    "Haddad Eriksson Mensah Petrov Dubois Fernández Patel Nkosi Tanaka Brown Kaya"
).encode()
_GIVEN_NAMES, _FAMILY_NAMES = _GIVEN.split(), _FAMILY.split()
_BODY = b'{"given_name":"%b","family_name":"%b","email":"%b.%d@example.org","country":"%b"}'


def email(group: bytes, number: int) -> bytes:
    """The address of one person of a group: ASCII, and nobody else's."""
    return b"%b.%d@example.org" % (group, number)


def body(group: bytes, number: int, country: bytes) -> bytes:
    """What this person sends."""
    given = _GIVEN_NAMES[number % len(_GIVEN_NAMES)]
    family = _FAMILY_NAMES[number % len(_FAMILY_NAMES)]
    return _BODY % (given, family, group, number, country)


class Requests:
    """The bytes of one person's signing of one petition, on a connection that is kept."""

    def __init__(self, petition: str, group: str) -> None:
        path = f"/v1/petitions/{petition}/signatures"
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: "
        self._head = head.encode()
        self.group = group.encode()

    def of(self, number: int, country: bytes) -> bytes:
        """The whole request."""
        sent = body(self.group, number, country)
        return b"%b%d\r\n\r\n%b" % (self._head, len(sent), sent)


class Shares:
    """Deals out countries so that each gets exactly its share of all, spread evenly over the whole.

    Person `i` takes place `(i * step) % total` in the row of all signers sorted by country. `step` has no
    common divisor with the total, so every place is taken once; near the golden ratio, the places taken up to
    any moment lie evenly (Knuth, "The Art of Computer Programming", 6.4, multiplicative hashing).
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._countries = [country.encode() for country in counts]
        self._ends = list(accumulate(counts.values()))
        self.total = self._ends[-1]
        step = max(1, round(self.total * 0.6180339887498949))
        while gcd(step, self.total) > 1:
            step += 1
        self._step = step

    def country(self, number: int) -> bytes:
        """The country of this person."""
        return self._countries[bisect_right(self._ends, number * self._step % self.total)]
