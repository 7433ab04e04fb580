"""`python -I -S <this folder> --config FILE`: read the configuration, shut ourselves in, serve."""

import sys

_folder = __file__.rpartition("/")[0].rpartition("/")[0]
sys.path.append(_folder)
from uhlp_runner.start import main  # noqa: E402 - only importable from here on

sys.path.remove(_folder)
main(sys.argv[1:])
