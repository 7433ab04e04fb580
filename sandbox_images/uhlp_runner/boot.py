"""Interpreter mode: what a fresh interpreter starts with. Serves one request and ends."""

import sys

_folder = __file__.rpartition("/")[0].rpartition("/")[0]
sys.path.append(_folder)
from uhlp_runner import once  # noqa: E402 - only importable from here on

sys.path.remove(_folder)
sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
once.serve()
