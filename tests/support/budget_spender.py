"""A process that spends an app's day budget until there is none left, and prints how much it spent."""

import asyncio
import sys

from uhlp_core import store
from uhlp_core.settings import Settings
from uhlp_mcp.llm.errors import OverBudget
from uhlp_mcp.llm.ledger import Account, Ledger, Limit


async def spend(url: str, limit: int, reserved: int, used: int) -> int:
    redis = store.connect(Settings(redis=url))
    ledger, spent = Ledger(redis), 0
    account = Account("alpha", ("app|",), (Limit("app|", "tokens", limit),))
    try:
        while True:
            held = await ledger.reserve(account, reserved, 0, 60)
            ledger.settle(held, {"tokens": used})
            spent += used
    except OverBudget:
        return spent
    finally:
        await ledger.close()
        await redis.aclose()


if __name__ == "__main__":
    print(asyncio.run(spend(sys.argv[1], *map(int, sys.argv[2:]))))
