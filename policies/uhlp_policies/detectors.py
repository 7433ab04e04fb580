"""Personal and secret data that is known by its form: found by pattern, and by checksum where there is one.

Searching takes time in proportion to the text: each pattern is bounded, or runs on RE2. A number that only
looks like a card or an account is left alone: its checksum is wrong. What is found in a text is also found
in the JSON of that text, where a line break is a backslash and an n.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import re2

from uhlp_state import credentials
from uhlp_state.model.policies import Detector

Span = tuple[int, int]
"""Where something was found: start and end."""

_Find = Callable[[str], Iterator[Span]]
"""Where it occurs, from left to right; these may overlap."""

IBAN_LENGTHS = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
"""How many characters the account numbers of a country have: the registry of ISO 13616."""

CARD_DIGITS = range(13, 20)
"""How many digits a card number has: ISO/IEC 7812, from the shortest in use."""

CARD_GROUP = 4
"""Fewest digits of a group of a card number, the last group apart: printed are 4-4-4-4, 4-6-5 and such."""

CARD_GROUPS = 5
"""Most groups of a card number: 4-4-4-4-3."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How one kind looks."""

    find: _Find
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
            for span in _joined(form.find(text)):
                yield span, kind


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Those that overlap as one: which of them is meant cannot be told, and each may be."""
    last: Span | None = None
    for span in spans:
        if last is not None and span[0] < last[1]:
            last = last[0], max(last[1], span[1])
        else:
            if last is not None:
                yield last
            last = span
    if last is not None:
        yield last


def _matches(pattern: re.Pattern[str], is_one: Callable[[str], bool] | None = None) -> _Find:
    """Finds what the pattern, of `re` or RE2, has in that group of it which took part."""

    def find(text: str) -> Iterator[Span]:
        for match in pattern.finditer(text):
            group = match.lastindex or 0
            if is_one is None or is_one(match[group]):
                yield match.span(group)

    return find


_AFTER_ESCAPE = r"(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4})"
"""For patterns of `re` of which no match can begin with the last letter of an escape."""

_DIGITS = re2.compile(rf"(?:{credentials.ESCAPE})?((?:[0-9][ -]?){{{CARD_DIGITS.start - 1},}}[0-9])")
"""Groups of digits with single separators, as many as follow one another."""

_ISSUERS = ("22", "23", "24", "25", "26", "27", "3", "4", "5", "6", "81", "97")
"""How numbers of payment cards begin; years do not."""

_DOUBLED = str.maketrans("0123456789", "0246813579")
"""Twice a digit, and of that the sum of the digits."""


def _cards(text: str) -> Iterator[Span]:
    """A whole run of digits however it is grouped, or groups within it that look like a printed card number.

    A date, a security code or an order number beside the card belongs to the run, so every group may be the
    first of a card and any the last.
    """
    for run in _DIGITS.finditer(text):
        start, end = run.span(1)
        groups = run[1].replace("-", " ").split(" ")
        if _is_card("".join(groups)):
            yield start, end
            continue
        for first, group in enumerate(groups):
            if group.startswith(_ISSUERS):
                for length in _card_lengths(groups[first : first + CARD_GROUPS]):
                    yield start, start + length
            start += len(group) + 1


def _card_lengths(groups: list[str]) -> Iterator[int]:
    """The lengths, separators included, of the card numbers with which the groups begin."""
    digits = ""
    for separators, group in enumerate(groups):
        digits += group
        if _is_card(digits):
            yield len(digits) + separators
        if len(group) < CARD_GROUP:
            return


def _is_card(digits: str) -> bool:
    """Luhn's checksum (ISO/IEC 7812), and not one digit over and over."""
    if len(digits) not in CARD_DIGITS:
        return False
    weighted = digits[-1::-2] + digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, weighted)) % 10 == 0 and len(set(digits)) > 1


def _ibans_of(length: int, countries: str) -> str:
    """The pattern of their account numbers: groups of four, of which the last may be shorter."""
    groups, rest = divmod(length - len("GB82"), 4)
    last = f" ?[A-Z0-9]{{{rest}}}" if rest else ""
    return f"(?:{countries.replace(' ', '|')})[0-9]{{2}}(?: ?[A-Z0-9]{{4}}){{{groups}}}{last}"


_LETTERS = str.maketrans({char: str(int(char, 36)) for char in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})


def _is_iban(text: str) -> bool:
    """The checksum of ISO 13616: the number, country and check digits last, leaves 1 modulo 97."""
    plain = text.replace(" ", "").upper()
    return int((plain[4:] + plain[:4]).translate(_LETTERS)) % 97 == 1


def _is_phone(text: str) -> bool:
    """From 8 digits, below which a number is anything, up to the 15 of ITU-T E.164."""
    return 8 <= sum(char.isdecimal() for char in text) <= 15


_FORMS = {
    Detector.CARD: _Form(_cards, rf"(?:[0-9][ -]?){{{CARD_DIGITS.start}}}"),
    Detector.IBAN: _Form(
        _matches(
            re.compile(
                # Looks ahead, so that what only begins like an account number hides none that begins in it.
                rf"(?:(?<![A-Z0-9])|{_AFTER_ESCAPE})(?=[A-Z]{{2}}[0-9]{{2}})"
                rf"(?=({'|'.join(_ibans_of(*row) for row in IBAN_LENGTHS.items())})(?![A-Z0-9]))",
                re.IGNORECASE | re.ASCII,
            ),
            _is_iban,
        ),
        r"[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11}",
    ),
    Detector.EMAIL: _Form(
        _matches(
            re.compile(
                rf"(?:{credentials.ESCAPE}|(?<![A-Za-z0-9._%+-]))"
                r"([A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9])",
                re.ASCII,
            )
        ),
        "@",
    ),
    Detector.PHONE: _Form(
        _matches(
            # With a + or a leading 0 or (, so that amounts and dates are not taken for numbers.
            re.compile(
                rf"(?:(?<![\w+])|{_AFTER_ESCAPE})"
                r"((?:\+|00|0|\(0)[0-9](?:[ ()./-]{0,2}[0-9]){6,14})(?![0-9])",
                re.ASCII,
            ),
            _is_phone,
        ),
        r"(?:\+|00|0|\(0)[0-9](?:[ ()./-]{0,2}[0-9]){6}",
    ),
    Detector.KEY: _Form(_matches(credentials.FORMS), credentials.FORMS_HINT),
}
