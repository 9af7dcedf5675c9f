"""Folding: the key by which two spellings of one name are the same."""

import unicodedata


def folded(text: str) -> str:
    """Letters and digits alone, without case, accents, dashes, apostrophes and spaces: `Côte-d'Or` as `cotedor`."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join([sign for sign in plain if sign.isalnum()])
