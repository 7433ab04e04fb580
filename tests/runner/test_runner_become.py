"""A runner that becomes another program: shut in as an instance is, save for the network."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from uhlp_core.home import Home
from uhlp_core.settings import Settings
from uhlp_reconcilers.backends.process import runner_command
from uhlp_reconcilers.environments.in_process import InProcess, configuration
from uhlp_reconcilers.environments.installer import Order, Work
from uhlp_state.dependencies import Dependencies
from uhlp_state.model.pools import DEFAULT_IMAGE, Language

LOOK_AROUND = """\
import json, os, socket, sys

def tried(act):
    try:
        return repr(act())
    except BaseException as error:
        return type(error).__name__

home, port = sys.argv[1:]
print(json.dumps({
    "secrets": tried(lambda: os.listdir(home + "/secrets")),
    "trees": tried(lambda: os.listdir(home + "/trees")),
    "shadow": tried(lambda: open("/etc/shadow").read()),
    "system": tried(lambda: open("/usr/mine", "w")),
    "home": tried(lambda: open(home + "/mine", "w")),
    "box": tried(lambda: open("mine", "w").close()),
    "network": tried(lambda: socket.create_connection(("127.0.0.1", int(port)), 5).close()),
    "user": os.getuid(),
    "variables": sorted(os.environ),
}))
"""


def test_it_has_the_network_and_its_box_and_nothing_of_the_platform(home: Home, tmp_path: Path) -> None:
    (home.secrets / "operator-token").write_text("secret")
    (home.trees / "shop").mkdir()
    work = Work(home.environments / "work")
    work.box.mkdir(parents=True)
    work.root.chmod(0o711)
    installer = InProcess(Settings(home_dir=home.root))
    os.chown(work.box, installer.uid, installer.uid)
    order = Order(Dependencies(Language.PYTHON, {}), DEFAULT_IMAGE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = str(Path(sys.executable).resolve())
        command = [program, "-I", "-S", "-c", LOOK_AROUND, str(home.root), str(server.getsockname()[1])]
        document = configuration(order, work, tmp_path / "pip", home, installer.uid)
        config = work.root / "runner.json"
        config.write_text(json.dumps({**document, "command": command, "variables": {"MORE": "1"}}))
        done = subprocess.run(runner_command(config, "--become"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "secrets": "FileNotFoundError",
        "trees": "FileNotFoundError",
        "shadow": "PermissionError",
        "system": "PermissionError",
        "home": "OSError",  # Its cover is read-only.
        "box": "None",
        "network": "None",
        "user": installer.uid,
        "variables": ["HOME", "LANG", "MORE", "PATH", "TMPDIR"],
    }
