"""Personal and secret data that is known by its form: found by pattern, and by checksum where there is one.

Searching takes time in proportion to the text: each pattern is bounded, or runs on RE2. A number that only
looks like a card or an account is left alone: its checksum is wrong.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import re2

from uhlp_state import credentials
from uhlp_state.model.policies import Detector

Span = tuple[int, int]
"""Where something was found: start and end."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How one kind looks."""

    pattern: re.Pattern[str]
    """Or what RE2 compiles, which is searched alike."""
    is_one: Callable[[str], bool]
    hint: str
    """For RE2, which is twenty times as fast: what must occur, or the text is not searched at all."""


class Finder:
    """Finds several kinds at once. Most texts hold none of them, which takes one fast search to know."""

    def __init__(self, kinds: Iterable[Detector]) -> None:
        self._forms = [(kind.value, _FORMS[kind]) for kind in kinds]
        self._hint = re2.compile("|".join(f"(?:{form.hint})" for _, form in self._forms))

    def find(self, text: str) -> Iterator[tuple[Span, str]]:
        """Where they occur and by which name: each kind from left to right, one kind after the other."""
        if self._hint.search(text) is None:
            return
        for kind, form in self._forms:
            for match in form.pattern.finditer(text):
                if form.is_one(match[0]):
                    yield match.span(), kind


def _is_card(text: str) -> bool:
    """Luhn's checksum (ISO/IEC 7812), and not one digit over and over."""
    digits = [int(char) for char in text if char.isdecimal()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """The checksum of ISO 13616: the number, country and check digits last, leaves 1 modulo 97."""
    plain = text.replace(" ", "").upper()
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    """From 8 digits, below which a number is anything, up to the 15 of ITU-T E.164."""
    return 8 <= sum(char.isdecimal() for char in text) <= 15


def _always(text: str) -> bool:
    return True


_FORMS = {
    Detector.CARD: _Form(
        re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])", re.ASCII),
        _is_card,
        r"(?:[0-9][ -]?){13}",
    ),
    Detector.IBAN: _Form(
        re.compile(
            r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", re.IGNORECASE | re.ASCII
        ),
        _is_iban,
        r"[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){8}",
    ),
    Detector.EMAIL: _Form(
        re.compile(
            r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
            re.ASCII,
        ),
        _always,
        "@",
    ),
    Detector.PHONE: _Form(
        # With a + or a leading 0 or (, so that amounts and dates are not taken for numbers.
        re.compile(r"(?<![\w+])(?:\+|00|0|\(0)[0-9](?:[ ()./-]{0,2}[0-9]){6,14}(?![0-9])", re.ASCII),
        _is_phone,
        r"(?:\+|00|0|\(0)[0-9](?:[ ()./-]{0,2}[0-9]){6}",
    ),
    Detector.KEY: _Form(credentials.FORMS, _always, credentials.FORMS_HINT),
}
