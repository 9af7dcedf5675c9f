"""How hard a secret is to guess: an estimate from below, by what people type when they are asked for a key.

Whoever has stolen a dump can try secrets against it as fast as they can compute, so a key must be random. Nothing can
prove that it is; this refuses what certainly is not: repetition, sequences, rows of a keyboard, common words, few
different characters. Everything else is counted sparingly, and must come to `MINIMUM_BITS`. That lets pass what random
generators make of 32 characters and more, whatever their alphabet, and six words drawn by dice.
"""

import base64
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

MINIMUM_BITS = 70
MINIMUM_LENGTH = 32
HOW_TO_MAKE_ONE = "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
_FEWEST_CHARACTERS = 6
_SHORTEST_SEQUENCE = 4
_FEWEST_BESIDE_WORDS = 8

# In bits. A word of the list below, a repetition or a sequence is one choice of its writer's.
_WORD, _PATTERN = 8.0, 6.0
# Letters that may be a word's: six words by dice (77 bits) have some 26 letters. Other characters by their alphabet.
_LETTER, _DIGIT, _OTHER = 2.5, math.log2(10), 5.0

_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890123456789",
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "qsdfghjklm",
    "wxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "!@#$%^&*()",
)
_WORDS = """
    access account admin administrator battery campaign change changeme choose correct database default demo deadbeef
    default development digest dragon encryption example football hello here horse insert iloveyou key keys letmein
    generate generated placeholder openssl rand random bytes insert replace the quick brown fox jumps over lazy dog
    movement signer signatures human rights freedom forever never always love
    live local login master monkey multitude mysecret password passwort passphrase petition please postgres
    private production root sample secret secretkey secure server service sesame sign signature staple strong super
    superman supersecret test testing tests this thisis token username user welcome winter summer your
"""
# What manuals and examples print where a key belongs.
_PLACEHOLDER = re.compile(
    r"change[\W_]?(?:me|this|it)\b|change[\W_]?me_|replace[\W_](?:me|this|with)|openssl[\W_]rand|token_urlsafe"
    r"|generate[\W_](?:a|an|with|your|new|me|this)\b|(?:your|my)[\W_](?:secret|key|own)|^<.*>$|^[$%][{(].*[)}]$",
    re.IGNORECASE,
)
_URL_SAFE = str.maketrans("-_", "+/")
_SEQUENCES = [row for line in _ROWS for row in (line, line[::-1])]
_COMMON = re.compile("|".join(sorted(set(_WORDS.split()), key=len, reverse=True)))
_MARKS = re.compile(r"[^A-Za-z0-9]")
_LETTERS = re.compile(r"[a-z]{3,}|[A-Z]{3,}|[A-Z][a-z]{2,}")


def weakness_of(secret: str) -> str | None:
    """What is wrong with a secret that is to be a key, without showing it; None when nothing is."""
    if len(secret) < MINIMUM_LENGTH:
        return f"is shorter than {MINIMUM_LENGTH} characters"
    if len(set(secret)) < _FEWEST_CHARACTERS:
        return "is made of too few different characters"
    if _PLACEHOLDER.search(secret):
        return "stands for a key that was never put in its place"
    if any(_is_of_words(text) or estimated_bits(text) < MINIMUM_BITS for text in (secret, *_decoded(secret))):
        return "is easy to guess (it repeats itself, or is made of words, sequences or rows of a keyboard)"
    return None


def _is_of_words(text: str) -> bool:
    """Whether next to nothing but common words is in it, however many."""
    rest, count = _COMMON.subn("", text.lower())
    return count > 0 and sum(one.isalnum() for one in rest) < _FEWEST_BESIDE_WORDS


def _decoded(secret: str) -> Iterator[str]:
    """What the secret spells in hex or base64, where that is text: encoding makes nothing harder to guess."""
    for decode in _DECODERS:
        with suppress(ValueError):
            text = decode(secret).decode("ascii")
            # Random bytes are hardly ever all printable.
            if text and text.isprintable():
                yield text


def _base64(secret: str) -> bytes:
    filled = secret.rstrip("=") + "=" * (-len(secret.rstrip("=")) % 4)
    return base64.b64decode(filled.translate(_URL_SAFE), validate=True)


_DECODERS: tuple[Callable[[str], bytes], ...] = (bytes.fromhex, _base64)


def estimated_bits(secret: str) -> float:
    """How many bits a guesser needs at the least, in the mind of this module: by patterns, and by its characters."""
    return min(_by_patterns(secret), _by_characters(secret))


def _by_characters(secret: str) -> float:
    """Shannon's entropy of the characters, as if each were drawn for itself."""
    shares = [count / len(secret) for count in Counter(secret).values()]
    return -len(secret) * sum(share * math.log2(share) for share in shares)


def _by_patterns(secret: str) -> float:
    bits, place, costs = 0.0, 0, _costs(secret)
    while place < len(secret):
        length, cost = _pattern_at(secret.lower(), place) or (1, costs[place])
        bits += cost
        place += length
    return bits


def _pattern_at(secret: str, place: int) -> tuple[int, float] | None:
    """The length of the word, repetition or sequence that stands at this place, and what it costs to guess."""
    pattern = max(_repeated(secret, place), _sequence(secret[place:]))
    word = _COMMON.match(secret, place)
    length = word.end() - place if word else 0
    if pattern >= max(_SHORTEST_SEQUENCE, length):
        return pattern, _PATTERN
    return (length, _WORD) if word else None


def _repeated(secret: str, place: int) -> int:
    """How far what stands here has stood before; a run of one character, too."""
    length = 0
    while place + length < len(secret) and secret[place : place + length + 1] in secret[: place + length]:
        length += 1
    return length


def _sequence(rest: str) -> int:
    """How far the rest goes along a row."""
    length = 0
    while length < len(rest) and any(rest[: length + 1] in row for row in _SEQUENCES):
        length += 1
    return length


def _costs(secret: str) -> list[float]:
    """What each character costs where no pattern is."""
    other = _OTHER if len(set(_MARKS.findall(secret))) > 1 else 1.0
    costs = [_DIGIT if one.isdigit() else _OTHER if one.isalnum() else other for one in secret]
    for found in _LETTERS.finditer(secret):
        costs[found.start() : found.end()] = [_LETTER] * len(found[0])
    return costs
