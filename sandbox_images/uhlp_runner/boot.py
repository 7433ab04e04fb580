"""Interpreter mode: what a fresh interpreter starts with. Serves one request and ends."""

import sys

# The package by hand: the folder around it, which an import would have to list, is hidden in a sandbox.
_package = type(sys)("uhlp_runner")
_package.__path__ = [__file__.rpartition("/")[0]]
sys.modules["uhlp_runner"] = _package
from uhlp_runner import once  # noqa: E402 - only importable from here on

sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
once.serve()
