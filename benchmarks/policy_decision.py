"""What a decision of the policies costs: over prompts with all rules that ship, and over a tool call."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring import Row, interleaved
from uhlp_policies import audit
from uhlp_policies.chain import PolicyChain
from uhlp_policies.shipped import shipped_policy
from uhlp_state.model.policies import Policy, PolicyEvent, ShippedPolicy

DECISIONS = 2000
GOAL_MS = 0.1

PROMPT = "Dear support, my order 12345 of 2026-11-20 has not come to 12 Main Street; please look. " * 23
"""Two thousand characters, with numbers to look at twice, and nothing to find."""

PERSONAL = f"{PROMPT[:-60]} Ada, ada@example.org, +44 20 7946 0958, 4111 1111 1111 1111"
"""As many, and three kinds to find."""

ALLOWED = Policy.model_validate(
    {
        "otherTools": "DENY",
        "rules": [
            {"id": "state", "events": ["tool.call"], "tools": ["core.state.*"], "action": "ALLOW"},
            {"id": "long", "events": ["llm.request"], "largerThan": 100_000, "action": "DENY"},
        ],
    }
)


def rows() -> list[Row]:
    chain = PolicyChain([*((name, shipped_policy(name)) for name in ShippedPolicy), ("own", ALLOWED)])
    nothing, personal = ([{"role": "user", "content": text}] for text in (PROMPT, PERSONAL))
    folder = TemporaryDirectory()

    def recorded() -> None:
        audit.record(
            Path(folder.name),
            PolicyEvent.LLM_REQUEST,
            chain.decide(PolicyEvent.LLM_REQUEST, personal),
            deployment="demo",
            instance="demo-1",
            component="summarise",
            user="ada",
            request_id="b8ad4d2c-54d7-4df4-9b43-a5b2e2d6b7aa",
            model="large",
        )

    prompt = f"policy decision over a prompt of {len(PROMPT):,} characters"
    hits = f"{prompt} with an e-mail, a phone and a card number"
    works: dict[str, Callable[[], object]] = {
        prompt: lambda: chain.decide(PolicyEvent.LLM_REQUEST, nothing),
        hits: lambda: chain.decide(PolicyEvent.LLM_REQUEST, personal),
        f"{hits}, and its line in the audit log": recorded,
        "policy decision over a tool call": lambda: chain.decide(
            PolicyEvent.TOOL_CALL, {"key": "a"}, tool="core.state.getRuntimeValue"
        ),
    }
    with folder:
        return [
            _row(what, each)
            for what, each in zip(works, interleaved(DECISIONS, *works.values()), strict=True)
        ]


def _row(what: str, each: float) -> Row:
    return Row(what, f"{each:.4f} ms", f"{GOAL_MS} ms", each / GOAL_MS, f"≤ {GOAL_MS:g} ms", each <= GOAL_MS)
