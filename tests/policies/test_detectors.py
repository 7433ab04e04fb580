"""What is taken for personal or secret data, and what only looks like it."""

import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from uhlp_policies.detectors import IBAN_LENGTHS, Finder
from uhlp_state.model.policies import Detector


def found(kind: str, text: str) -> list[str]:
    return [text[start:end] for (start, end), _ in Finder([Detector(kind)]).find(text)]


SAMPLES = [
    ("card", "4111111111111111"),
    ("card", "4111 1111 1111 1111"),
    ("card", "3782-822463-10005"),
    ("card", "6011000990139424"),
    ("iban", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "DE89370400440532013000"),
    ("iban", "nl91abna0417164300"),
    ("iban", "NO93 8601 1117 947"),
    ("email", "first.last+tag@mail.example.co.uk"),
    ("phone", "+49 30 901820"),
    ("phone", "(030) 9018-2000"),
    ("phone", "00441632960961"),
    ("phone", "+1 (415) 555-2671"),
    ("key", "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"),
    ("key", "sk_live_abcdefghijklmnop1234"),
    ("key", "ghp_" + "a" * 36),
    ("key", "AKIAIOSFODNN7EXAMPLE"),
    ("key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop"),
    ("key", "Bearer abcdefghijklmnopqrstuvwxyz"),
    ("key", "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA"),
    ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE+abc/=\nxyz\n-----END RSA PRIVATE KEY-----"),
    (
        "key",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1 (é)\n\nlQOY=\n-----END PGP PRIVATE KEY BLOCK-----",
    ),
]


@pytest.mark.parametrize(("kind", "text"), SAMPLES)
def test_found(kind: str, text: str) -> None:
    assert found(kind, text) == [text]
    assert found(kind, f"see\n{text}\n; then") == [text]


@pytest.mark.parametrize(
    "before", ["", "see\n", "see\r\n", "see\t", "\f", "\b", "é", "\N{NO-BREAK SPACE}", '"']
)
@pytest.mark.parametrize(("kind", "text"), SAMPLES)
def test_found_in_json(kind: str, text: str, before: str) -> None:
    escaped = json.dumps(text)[1:-1]
    assert found(kind, json.dumps({"note": f"{before}{text}\n; then"})) == [escaped]
    twice = json.dumps(json.dumps({"note": f"see\n{text}\n; then"}))
    assert found(kind, twice) == [json.dumps(escaped)[1:-1]]


@pytest.mark.parametrize(("kind", "text"), SAMPLES)
def test_found_in_a_quotation(kind: str, text: str) -> None:
    quoted = text.replace("\n", "\n> ")
    assert found(kind, f"> see\n> {quoted}\n> ; then") == [quoted]


@pytest.mark.parametrize(("kind", "text"), [it for it in SAMPLES if it[0] in ("card", "iban", "key")])
def test_found_as_part_of_a_name(kind: str, text: str) -> None:
    assert found(kind, f"my_{text}")[0] == text
    assert text in found(kind, f"my_{text}_old")[0]


@pytest.mark.parametrize(
    ("kind", "text", "pieces"),
    [
        ("card", "4111 1111 1111 1111 12/27", ["4111 1111 1111 1111"]),
        ("card", "4111 1111 1111 1111 123", ["4111 1111 1111 1111"]),
        ("card", "Order 7 4111 1111 1111 1111", ["4111 1111 1111 1111"]),
        ("card", "2026-11-20 4111111111111111 99", ["4111111111111111"]),
        ("card", "3782 822463 10005 12-27", ["3782 822463 10005"]),
        ("card", "4222 2222 2222 2 12/27", ["4222 2222 2222 2"]),
        ("card", "4111 1111 1111 1111 5500 0000 0000 0004", ["4111 1111 1111 1111", "5500 0000 0000 0004"]),
        ("card", "41 11 11 11 11 11 11 11", ["41 11 11 11 11 11 11 11"]),
        ("iban", "ES91 2100 0418 4502 0005 1332 for Ada", ["ES91 2100 0418 4502 0005 1332"]),
        ("iban", "AT61 1904 3002 3457 3201 from me", ["AT61 1904 3002 3457 3201"]),
        ("iban", "BE68 5390 0754 7034 is mine", ["BE68 5390 0754 7034"]),
        ("iban", "AT61 BE68 5390 0754 7034 is mine", ["BE68 5390 0754 7034"]),
        ("iban", "BE68 5390 0754 7034 NO93 8601 1117 947", ["BE68 5390 0754 7034", "NO93 8601 1117 947"]),
    ],
)
def test_found_beside_other_numbers_and_words(kind: str, text: str, pieces: list[str]) -> None:
    assert found(kind, text) == pieces


def test_a_private_key_without_its_end_goes_as_far_as_the_text() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n| MIIE\n* abc.\n-----END PRIV"
    assert found("key", f"it is {key}") == [key]


def test_every_private_key_ends_where_its_end_is() -> None:
    key = "-----BEGIN EC PRIVATE KEY-----\nMIIE\n-----END EC PRIVATE KEY-----"
    assert found("key", f"{key} and {key}, no more") == [key, key]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("card", "4111 1111 1111 1112"),
        ("card", "0000 0000 0000 0000"),
        ("card", "123456789012"),
        ("card", "41111111111111111111111"),
        ("card", "4111111111111111111111111"),
        ("card", "14111111111111111 5"),
        ("card", "1990 1991 1992 1993 1994 1995 1996 1997 1998 1999 2000 2001 2002 2003 2004 2005 2006"),
        ("card", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30"),
        ("card", "2026-11-20 2026-11-21 2026-11-22 2026-11-23 2026-11-24 2026-11-25"),
        ("iban", "GB83 WEST 1234 5698 7654 32"),
        ("iban", "AB12"),
        ("iban", "BE68 5390 0754 70345"),
        ("iban", "XBE68539007547034"),
        ("email", "a@b"),
        ("email", "@example.org"),
        ("phone", "2026-11-20"),
        ("phone", "1,234,567.89"),
        ("phone", "0123"),
        ("key", "skateboard-is-not-a-key"),
        ("key", "the bearer of this letter"),
        ("key", "AKIA"),
        ("key", "-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----"),
        ("key", "brisk-walks-in-the-morning-air"),
    ],
)
def test_left_alone(kind: str, text: str) -> None:
    assert found(kind, text) == []


@given(st.text(), st.sampled_from(list(Detector)))
def test_spans_lie_in_the_text_in_order_and_apart(text: str, kind: Detector) -> None:
    end = 0
    for (start, stop), _ in Finder([kind]).find(text):
        assert end <= start < stop <= len(text)
        end = stop


@given(st.integers(10**14, 10**15 - 1))
def test_exactly_one_check_digit_makes_a_card(number: int) -> None:
    if len(set(str(number))) > 1:
        assert sum(bool(found("card", f"{number}{digit}")) for digit in range(10)) == 1


ESCAPE = r"\\[bfnrt]|\\u[0-9A-Fa-f]{4}"
SPECIFIED = {
    "email": rf"(?:{ESCAPE}|(?<![A-Za-z0-9._%+-]))"
    r"([A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9])",
    "phone": rf"(?:(?<![\w+])|{ESCAPE})((?:\+|00|0|\(0)[0-9](?:[ ()./-]{{0,2}}[0-9]){{6,14}})(?![0-9])",
}
"""What these kinds are, written with what RE2 does not have: it looks around, and uses nothing up by that."""

PIECES = {
    "email": ["a", "A1", "a@b.org", "a@b.co,", "@", ".", ".org", "-%+", "x" * 63, "@b.c.d.e.f.g.h.i.j.kk"],
    "phone": ["+", "0", "00", "(0", "1", "23", "456", "7890", "(", ")", "-", ".", "/", "_", "+49 30 90182"],
}  # fmt: skip
AROUND = [" ", "\n", "é", "x", "\\", "\\n", "\\u00a0", "\\u0000", ";"]


@given(st.data(), st.sampled_from(["email", "phone"]))
def test_found_is_what_looking_around_finds(data: st.DataObject, kind: str) -> None:
    text = "".join(data.draw(st.lists(st.sampled_from(PIECES[kind] + AROUND), max_size=14)))
    expected = [
        piece
        for piece in re.findall(SPECIFIED[kind], text, re.ASCII)
        if kind != "phone" or 8 <= sum(map(str.isdecimal, piece)) <= 15
    ]
    assert found(kind, text) == expected


def test_kinds_are_found_together_from_left_to_right() -> None:
    text = "é ada@example.org, +49 30 901820, 4111 1111 1111 1111 or ada@example.org"
    spans = list(Finder([Detector.CARD, Detector.PHONE, Detector.EMAIL]).find(text))
    assert [(text[start:end], kind) for (start, end), kind in spans] == [
        ("ada@example.org", "email"),
        ("+49 30 901820", "phone"),
        ("4111 1111 1111 1111", "card"),
        ("ada@example.org", "email"),
    ]


DIGITS = "0123456789"
NO_LETTER_OR_DIGIT = st.text(st.characters(codec="utf-8").filter(lambda char: not char.isalnum()))


def in_groups(plain: str, separator: str) -> str:
    return separator.join(plain[start : start + 4] for start in range(0, len(plain), 4))


@st.composite
def cards(draw: st.DrawFn, issuer: str = "") -> str:
    rest = draw(st.text(DIGITS, min_size=12 - len(issuer), max_size=18 - len(issuer)))
    number = issuer + rest
    total = sum(
        int(digit) if place % 2 else sum(divmod(2 * int(digit), 10))
        for place, digit in enumerate(reversed(number))
    )
    number += str(-total % 10)
    assume(len(set(number)) > 1)
    return in_groups(number, draw(st.sampled_from(["", " ", "-"])))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    length, countries = draw(st.sampled_from(list(IBAN_LENGTHS.items())))
    country = draw(st.sampled_from(countries.split()))
    account = draw(st.text(DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=length - 4, max_size=length - 4))
    check = 98 - int("".join(str(int(char, 36)) for char in f"{account}{country}00")) % 97
    number = in_groups(f"{country}{check:02}{account}", draw(st.sampled_from(["", " "])))
    return draw(st.sampled_from([number, number.lower()]))


@given(cards(), NO_LETTER_OR_DIGIT, NO_LETTER_OR_DIGIT)
def test_a_card_is_found_between_whatever_is_no_letter_or_digit(card: str, before: str, after: str) -> None:
    assert found("card", f"{before}{card}{after}") == [card]


@given(cards(issuer="4"), st.text(DIGITS + " -/x"), st.text(DIGITS + " -/x"))
def test_a_printed_card_number_is_found_between_other_numbers(card: str, before: str, after: str) -> None:
    assert any(card in piece for piece in found("card", f"{before} {card} {after}"))


@given(ibans(), NO_LETTER_OR_DIGIT, NO_LETTER_OR_DIGIT)
def test_an_account_is_found_between_whatever_is_no_letter_or_digit(
    iban: str, before: str, after: str
) -> None:
    assert found("iban", f"{before}{iban}{after}") == [iban]


@given(ibans(), st.text(), st.text())
def test_an_account_is_found_between_words(iban: str, before: str, after: str) -> None:
    assert any(iban in piece for piece in found("iban", f"{before} {iban} {after}"))
