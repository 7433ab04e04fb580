"""What a decision of the policies costs: over a prompt with all rules that ship, and over a tool call."""

from benchmarks.measuring import Row, milliseconds
from uhlp_policies.chain import PolicyChain
from uhlp_policies.shipped import shipped_policy
from uhlp_state.model.policies import Policy, PolicyEvent, ShippedPolicy

DECISIONS = 2000
GOAL_MS = 0.1

PROMPT = "Dear support, my order 12345 of 2026-11-20 has not come to 12 Main Street; please look. " * 23
"""Two thousand characters, with numbers to look at twice."""

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
    asked = [{"role": "user", "content": PROMPT}]

    def prompts() -> None:
        for _ in range(DECISIONS):
            chain.decide(PolicyEvent.LLM_REQUEST, asked)

    def calls() -> None:
        for _ in range(DECISIONS):
            chain.decide(PolicyEvent.TOOL_CALL, {"key": "a"}, tool="core.state.getRuntimeValue")

    return [
        _row(f"policy decision over a prompt of {len(PROMPT):,} characters", milliseconds(prompts)),
        _row("policy decision over a tool call", milliseconds(calls)),
    ]


def _row(what: str, total: float) -> Row:
    each = total / DECISIONS
    return Row(what, f"{each:.4f} ms", f"{GOAL_MS} ms", each / GOAL_MS, f"≤ {GOAL_MS:g} ms", each <= GOAL_MS)
