"""Which gateways are alive, and whether they have taken a deployment's newest routes."""

import time

from uhlp_core import keys
from uhlp_core.store import Store


async def gateways_behind(redis: Store, deployment: str, generation: int) -> set[str]:
    """Ids of gateways alive that have not acknowledged this generation of a deployment's routes."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.zrangebyscore(keys.GATEWAYS, time.time(), "+inf")
        pipe.hgetall(keys.acks(deployment))
        alive, acks = await pipe.execute()
    return {gateway.decode() for gateway in alive if int(acks.get(gateway, b"0")) < generation}
