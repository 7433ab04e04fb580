"""`python -I -S <this folder> --config FILE`: read the configuration, then start.

`--protection` only tells what would hold; `--run FD ARGUMENT…` runs one program in place of handlers.
"""

import argparse
import sys

_folder = __file__.rpartition("/")[0].rpartition("/")[0]
sys.path.append(_folder)
from uhlp_runner import config  # noqa: E402 - only importable from here on

_parser = argparse.ArgumentParser(prog="uhlp_runner", description="Runs the handlers of one instance.")
_parser.add_argument("--config", required=True, help="the instance's configuration, a JSON file")
_parser.add_argument("--protection", action="store_true", help="print what would hold for it, and end")
_parser.add_argument("--become", action="store_true", help="become the program that the file names, shut in")
_parser.add_argument("--run", type=int, metavar="FD", help="run the program that is open as FD, and end")
_parser.add_argument("arguments", nargs="*", help="its arguments, with its name first")
_options = _parser.parse_args()
_config = config.load(_options.config)

if _options.run is not None:
    from uhlp_runner import program_run

    program_run.run(_config, _options.run, _options.arguments)

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
