"""Writing the hooks: whole, once, and with an interpreter that is not a script."""

import subprocess
import sys
from pathlib import Path

from uhlp_core.home import Home
from uhlp_hooks import install
from uhlp_hooks.install import install_hooks


def test_hooks_are_executable_and_left_alone_when_right(tmp_path):
    home = Home(tmp_path)
    install_hooks(home)
    hooks = [home.hooks / name for name in ("pre-receive", "post-receive")]
    before = [hook.stat().st_ino for hook in hooks]
    assert all(hook.stat().st_mode & 0o777 == 0o755 for hook in hooks)
    install_hooks(home)
    assert [hook.stat().st_ino for hook in hooks] == before
    assert sorted(path.name for path in home.hooks.iterdir()) == ["post-receive", "pre-receive"]


def test_a_changed_hook_is_mended(tmp_path):
    home = Home(tmp_path)
    install_hooks(home)
    (home.hooks / "pre-receive").write_text("#!/bin/sh\nexit 0\n")
    (home.hooks / "post-receive").chmod(0o644)
    install_hooks(home)
    assert "judge_here" in (home.hooks / "pre-receive").read_text()
    assert (home.hooks / "post-receive").stat().st_mode & 0o777 == 0o755


def test_the_interpreter_is_the_real_one(tmp_path):
    install_hooks(Home(tmp_path))
    first = (tmp_path / "hooks/pre-receive").read_text().splitlines()[0]
    python = Path(first.removeprefix("#!").removesuffix(" -IS"))
    assert python.parent.parent == Path(sys.base_prefix)
    assert python.resolve().read_bytes()[:4] == b"\x7fELF"


def test_an_interpreter_whose_path_a_shebang_cannot_hold(tmp_path, monkeypatch):
    odd = tmp_path / "a folder, isn't it"
    odd.mkdir()
    python = odd / "python"
    python.symlink_to(Path(sys.executable).resolve())
    monkeypatch.setattr(install, "_base_python", lambda: str(python))
    install_hooks(Home(tmp_path))
    done = subprocess.run(
        [tmp_path / "hooks/post-receive"],
        input=f"{'0' * 40} {'1' * 40} refs/heads/main\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "The commit is stored" in done.stdout
