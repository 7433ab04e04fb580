"""While a long text is searched in a thread, all others go on: no step keeps Python's lock for long."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from uhlp_policies.chain import PolicyChain
from uhlp_policies.shipped import shipped_policy
from uhlp_state.model.policies import PolicyAction, PolicyEvent, ShippedPolicy

CHAIN = PolicyChain([], [(name.value, shipped_policy(name.value)) for name in ShippedPolicy])
SIZE = 2 << 20
"""Characters: as much as one tool call may carry."""

PART = 4
"""What holds the lock for as long as it takes keeps others waiting for all of that time, not a part of it."""


def waited(text: str) -> tuple[float, float]:
    """Seconds that this thread stood still at most while another decided over the text, and those it took."""
    longest = 0.0
    with ThreadPoolExecutor(1) as pool:
        deciding = pool.submit(CHAIN.decide, PolicyEvent.LLM_REQUEST, [text])
        began = last = time.perf_counter()
        while not deciding.done():
            threading.Event().wait(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        assert deciding.result().action in (PolicyAction.ALLOW, PolicyAction.REDACT)
    return longest, last - began


@pytest.mark.parametrize("words", ["GB82 AAAA ", "0 ", "@ ", "GB82 WEST 1234 5698 7654 3 a@b.org "])
def test_a_long_text_keeps_nobody_waiting(words: str) -> None:
    text = words * (SIZE // len(words))

    def keeps_nobody_waiting() -> bool:
        longest, whole = waited(text)
        return longest < whole / PART

    # Another program may make this thread wait as well, but not each time.
    assert any(keeps_nobody_waiting() for _ in range(5))
