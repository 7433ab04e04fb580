"""`python -I -S <this folder> --config FILE`: read the configuration, then start."""

import argparse
import sys

_folder = __file__.rpartition("/")[0].rpartition("/")[0]
sys.path.append(_folder)
from uhlp_runner import config  # noqa: E402 - only importable from here on

_parser = argparse.ArgumentParser(prog="uhlp_runner", description="Runs the handlers of one instance.")
_parser.add_argument("--config", required=True, help="the instance's configuration, a JSON file")
_parser.add_argument("--protection", action="store_true", help="print what would hold for it, and end")
_parser.add_argument("--become", action="store_true", help="become the program that the file names, shut in")
_options = _parser.parse_args()
_config = config.load(_options.config)

# orjson lies among packages that handlers are not to see: on the path only until the runner has it.
sys.path.extend(_config.libraries)
from uhlp_runner import start  # noqa: E402 - after the path is complete

for _entry in (_folder, *_config.libraries):
    sys.path.remove(_entry)

if _options.become:
    from uhlp_runner import become

    become.main(_config, _options.config)
elif _options.protection:
    start.report_protection(_config)
else:
    start.main(_config)
