"""Phone numbers, in the one form that can be called from anywhere (ITU-T E.164)."""

import phonenumbers


def normalised(number: str) -> str:
    """`+256 772 123456` as `+256772123456`; ValueError, which says nothing of the number, when it is none."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        raise ValueError("is not a phone number with its country code") from None
    # An extension cannot be dialled from elsewhere.
    if parsed.extension or not phonenumbers.is_valid_number(parsed):
        raise ValueError("is not a phone number with its country code")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
