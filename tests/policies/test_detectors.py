"""What is taken for personal or secret data, and what only looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uhlp_policies.detectors import Finder
from uhlp_state.model.policies import Detector


def found(kind: str, text: str) -> list[str]:
    return [text[start:end] for (start, end), _ in Finder([Detector(kind)]).find(text)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("card", "4111111111111111"),
        ("card", "4111 1111 1111 1111"),
        ("card", "3782-822463-10005"),
        ("card", "6011000990139424"),
        ("iban", "GB82 WEST 1234 5698 7654 32"),
        ("iban", "DE89370400440532013000"),
        ("iban", "nl91abna0417164300"),
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
        ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE+abc/=\nxyz\n"),
    ],
)
def test_found(kind: str, text: str) -> None:
    assert found(kind, text) == [text]
    assert found(kind, f"see\n{text}\n; then")[0].strip() == text.strip()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("card", "4111 1111 1111 1112"),
        ("card", "0000 0000 0000 0000"),
        ("card", "123456789012"),
        ("card", "41111111111111111111111"),
        ("iban", "GB83 WEST 1234 5698 7654 32"),
        ("iban", "AB12"),
        ("email", "a@b"),
        ("email", "@example.org"),
        ("phone", "2026-11-20"),
        ("phone", "1,234,567.89"),
        ("phone", "0123"),
        ("key", "skateboard-is-not-a-key"),
        ("key", "the bearer of this letter"),
        ("key", "AKIA"),
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
