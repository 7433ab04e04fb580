"""Revisions that cannot be brought into force, and why: kept in Redis until another commit has the tree."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson

from uhlp_core import keys, store, wake
from uhlp_core.store import Store
from uhlp_state.documents import RegistryDoc, Revision


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a revision cannot be brought into force."""

    reason: str
    message: str


def refusals(raw: Mapping[bytes, bytes]) -> dict[str, Refusal]:
    """By commit, from the hash in Redis."""
    entries = map(orjson.loads, raw.values())
    return {entry["commit"]: Refusal(entry["reason"], entry["message"]) for entry in entries}


async def refuse(redis: Store, deployment: str, revision: Revision, refusal: Refusal) -> None:
    """Note a refusal and tell whoever waits for the revision."""
    entry = {"commit": revision.commit, **asdict(refusal), "at": time.time()}
    async with redis.pipeline(transaction=False) as pipe:
        pipe.hset(keys.quarantine(deployment), revision.tree, store.dumps(entry))
        wake.nudge(pipe, "instances", deployment)
        await pipe.execute()


async def forget_refusals(redis: Store, wanted: RegistryDoc, raw: Mapping[bytes, bytes]) -> None:
    """A refusal counts for its commit. Pushed again with another, the same tree is tried again: what was
    wrong may have been outside of it, such as a package that was not there.
    """
    again = [
        revision.tree
        for revision in wanted.revisions
        if (entry := raw.get(revision.tree.encode())) and orjson.loads(entry)["commit"] != revision.commit
    ]
    if again:
        await redis.hdel(keys.quarantine(wanted.deployment), *again)
