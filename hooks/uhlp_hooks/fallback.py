"""The pre-receive hook's judgement without the registry daemon: the same validator, in this process.

Runs inside the push, in Git's quarantine environment; reads the ref updates from standard input.
"""

import os
import sys
from pathlib import Path

from uhlp_core.errors import UhlpError
from uhlp_state.parse_cache import ParseCache
from uhlp_state.receive import Judgement, current_platform, judge, parse_updates


def judge_push(repo: Path, updates: str, environment: dict[str, str]) -> Judgement:
    """Judge what Git handed to the hook of `repo`."""
    objects = environment.get("GIT_OBJECT_DIRECTORY")
    alternates = environment.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "")
    return judge(
        repo,
        parse_updates(updates),
        repo / objects if objects else None,
        [Path(folder) for folder in alternates.split(":") if folder],
        ParseCache(),
        current_platform(repo.parent),
    )


def main() -> int:
    """Print the judgement; 0 accepts the push, 1 refuses it."""
    updates = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    try:
        judgement = judge_push(Path.cwd(), updates, dict(os.environ))
    except (UhlpError, OSError) as error:
        judgement = Judgement(False, [f"the push could not be validated: {error}"])
    text = "".join(line + "\n" for line in judgement.lines)
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    return 0 if judgement.accepted else 1


if __name__ == "__main__":
    sys.exit(main())
