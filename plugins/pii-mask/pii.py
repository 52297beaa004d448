"""Finds personal data in text, and puts what it was in its place: `ada@example.com` becomes `[email]`."""

import re
from collections.abc import Callable

EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
CARD = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
PHONE = re.compile(r"(?<![\w+])\+\d(?:[ ()/-]*\d){6,14}\b")


def is_iban(text: str) -> bool:
    """ISO 13616: rearranged, and with letters as numbers, it is 1 modulo 97."""
    text = text.replace(" ", "")
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """Luhn's check digit, which a mistyped number and most other numbers do not have."""
    digits = [int(char) for char in reversed(text) if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def always(_: str) -> bool:
    return True


# In this order: an IBAN has a card number's digits in it.
KINDS: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "email": (EMAIL, always),
    "iban": (IBAN, is_iban),
    "card": (CARD, is_card),
    "phone": (PHONE, always),
}


def mask_text(text: str, kinds: list[str]) -> str:
    """Masks these kinds of data in a text."""
    for kind in kinds:
        pattern, holds = KINDS[kind]
        text = pattern.sub(lambda found: f"[{kind}]" if holds(found[0]) else found[0], text)
    return text


def mask(value: object, kinds: list[str]) -> object:
    """Masks every text in a JSON value; names of fields stay."""
    match value:
        case str():
            return mask_text(value, kinds)
        case list():
            return [mask(item, kinds) for item in value]
        case dict():
            return {name: mask(item, kinds) for name, item in value.items()}
        case _:
            return value
