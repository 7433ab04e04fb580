"""Personal and secret data that is known by its form: found by pattern, and by checksum where there is one.

Searching takes time in proportion to the text and keeps no other thread waiting: RE2 goes through all of it
without Python's lock, and Python looks only at what RE2 has found. A number that only looks like a card or an
account is left alone: its checksum is wrong. What is found in a text is also found in the JSON of that text,
where a line break is a backslash and an n.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice

import re2

from uhlp_state import credentials
from uhlp_state.model.policies import Detector

Span = tuple[int, int]
"""Where something was found: start and end."""

_Find = Callable[[bytes], Iterator[Span]]
"""Where it occurs in ASCII, from left to right; these may overlap."""

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
    """For RE2: what occurs wherever the kind does, and is found without telling where."""


class Finder:
    """Finds several kinds at once. One search tells which of them a text may hold; most hold none."""

    def __init__(self, kinds: Sequence[Detector]) -> None:
        self._finds = [(kind.value, _FORMS[kind].find) for kind in kinds]
        self._hints = re2.Set.SearchSet()
        for kind in kinds:
            self._hints.Add(_FORMS[kind].hint)
        self._hints.Compile()

    def find(self, text: str) -> Iterator[tuple[Span, str]]:
        """Where they occur and by which name, from left to right; those of one kind do not overlap."""
        # One byte for each character, so that places are the same. All that is looked for is ASCII, and
        # every other character is as little a part of it as the question mark that stands in for it.
        data = text.encode("ascii", "replace")
        hinted = self._hints.Match(data)
        if hinted is None:
            return iter(())
        return merge(*(_joined(find(data), name) for name, find in (self._finds[kind] for kind in hinted)))


def _joined(spans: Iterable[Span], name: str) -> Iterator[tuple[Span, str]]:
    """Those that overlap as one: which of them is meant cannot be told, and each may be."""
    last: Span | None = None
    for span in spans:
        if last is not None and span[0] < last[1]:
            last = last[0], max(last[1], span[1])
        else:
            if last is not None:
                yield last, name
            last = span
    if last is not None:
        yield last, name


def _matches(pattern: str | re.Pattern[str], is_one: Callable[[bytes], bool] | None = None) -> _Find:
    """Finds what the pattern, for RE2, has in that group of it which took part.

    What surrounds the group is only looked at: it may belong to the next one as well.
    """
    searched = re2.compile(pattern)

    def find(data: bytes) -> Iterator[Span]:
        end = 0
        while match := searched.search(data, end):
            group = match.lastindex
            start, end = match.span(group)
            if is_one is None or is_one(data[start:end]):
                yield start, end

    return find


_digit_runs = _matches(rf"(?:{credentials.ESCAPE})?((?:[0-9][ -]?){{{CARD_DIGITS.start - 1},}}[0-9])")
"""Groups of digits with single separators, as many as follow one another."""

_DIGITS = re.compile(rb"[0-9]+")

_ISSUERS = (b"22", b"23", b"24", b"25", b"26", b"27", b"3", b"4", b"5", b"6", b"81", b"97")
"""How numbers of payment cards begin; years do not."""

_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
"""Twice a digit, and of that the sum of the digits."""


def _cards(data: bytes) -> Iterator[Span]:
    """A whole run of digits however it is grouped, or groups within it that look like a printed card number.

    A date, a security code or an order number beside the card belongs to the run, so every group may be the
    first of a card and any the last.
    """
    for start, end in _digit_runs(data):
        if end - start < 2 * CARD_DIGITS.stop and _is_card(data[start:end].translate(None, b" -")):
            yield start, end
            continue
        for group in _DIGITS.finditer(data, start, end):
            if len(group[0]) >= CARD_GROUP and group[0].startswith(_ISSUERS):
                for stop in _card_ends(data, group.start(), end):
                    yield group.start(), stop


def _card_ends(data: bytes, start: int, end: int) -> Iterator[int]:
    """Where the card numbers end that begin with the group of digits at `start`."""
    digits = b""
    for group in islice(_DIGITS.finditer(data, start, end), CARD_GROUPS):
        digits += group[0]
        if _is_card(digits):
            yield group.end()
        if len(group[0]) < CARD_GROUP:
            return


def _is_card(digits: bytes) -> bool:
    """Luhn's checksum (ISO/IEC 7812), and not one digit over and over."""
    if len(digits) not in CARD_DIGITS:
        return False
    weighted = digits[-1::-2] + digits[-2::-2].translate(_DOUBLED)
    return (sum(weighted) - len(digits) * ord("0")) % 10 == 0 and len(set(digits)) > 1


_iban_beginnings = _matches(rf"(?i)((?:{'|'.join(IBAN_LENGTHS.values()).replace(' ', '|')})[0-9]{{2}})")
"""Country and check digits, wherever they stand."""


def _groups_of(length: int, countries: str) -> str:
    """The pattern of account numbers: groups of four, of which the last may be shorter."""
    groups, rest = divmod(length - len("GB82"), 4)
    last = f" ?[A-Z0-9]{{{rest}}}" if rest else ""
    return f"(?:{countries.replace(' ', '|')})[0-9]{{2}}(?: ?[A-Z0-9]{{4}}){{{groups}}}{last}"


_IBAN = re.compile(
    # Not by RE2: this looks behind, since one may begin within what only began like another.
    rf"(?:(?<![A-Z0-9])|(?<=\\[bfnrt])|(?<=\\u[0-9A-F]{{4}}))"
    rf"(?:{'|'.join(_groups_of(*row) for row in IBAN_LENGTHS.items())})(?![A-Z0-9])".encode(),
    re.IGNORECASE,
)

_LETTERS = str.maketrans({char: str(int(char, 36)) for char in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})


def _ibans(data: bytes) -> Iterator[Span]:
    for start, _ in _iban_beginnings(data):
        match = _IBAN.match(data, start)
        if match and _is_iban(match[0].decode()):
            yield match.span()


def _is_iban(text: str) -> bool:
    """The checksum of ISO 13616: the number, country and check digits last, leaves 1 modulo 97."""
    plain = text.replace(" ", "").upper()
    return int((plain[4:] + plain[:4]).translate(_LETTERS)) % 97 == 1


def _is_phone(number: bytes) -> bool:
    """From 8 digits, below which a number is anything, up to the 15 of ITU-T E.164."""
    return 8 <= len(number.translate(None, b"+ ()./-")) <= 15


_FORMS = {
    Detector.CARD: _Form(_cards, rf"(?:[0-9][ -]?){{{CARD_DIGITS.start}}}"),
    Detector.IBAN: _Form(_ibans, r"[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11}"),
    Detector.EMAIL: _Form(
        _matches(
            rf"(?:{credentials.ESCAPE}|^|[^A-Za-z0-9._%+-])"
            r"([A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})(?:[^A-Za-z0-9]|$)"
        ),
        "@",
    ),
    Detector.PHONE: _Form(
        _matches(
            # With a + or a leading 0 or (, so that amounts and dates are not taken for numbers.
            rf"(?:{credentials.ESCAPE}|^|[^A-Za-z0-9_+])"
            r"((?:\+|00|0|\(0)[0-9](?:[ ()./-]{0,2}[0-9]){6,14})(?:[^0-9]|$)",
            _is_phone,
        ),
        r"(?:\+|00|0|\(0)[0-9](?:[ ()./-]{0,2}[0-9]){6}",
    ),
    Detector.KEY: _Form(_matches(credentials.FORMS), credentials.FORMS_HINT),
}
