"""What each process does in the test of writers that meet; processes are started by importing this."""

import asyncio

from git.git_world import World
from uhlp_state.state_manager import StateManager


def write_many(root, worker, rounds):
    """One process: its own file, and its own line of a file that all share."""
    manager = StateManager(World(root).home, store=None)

    async def run():
        for count in range(1, rounds + 1):
            await manager.set_definition_file_content(
                "hello", f"notes/{worker}.txt", f"{count}\n", f"{worker}.{count}"
            )
            base = (await manager.get_definition_file_content("hello", "notes/shared.txt")).revision
            line = worker * 2 + 1
            old = f"{worker}:{count - 1}"
            diff = f"@@ -{line} +{line} @@\n-{old}\n+{worker}:{count}\n"
            await manager.apply_definition_diff("hello", "notes/shared.txt", diff, base, f"{worker}+{count}")

    asyncio.run(run())
