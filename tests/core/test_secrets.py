"""Secrets: found for the app they were given to and no other, from every source; never in clear on disk."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet

from support.published_programs import missing, sops
from support.waiting import wait_until
from uhlp_core.errors import InvalidInput
from uhlp_core.secrets import ALL_APPS, LocalSecrets, SecretMissing, SecretStore, SecretsUnavailable
from uhlp_core.secrets.names import check_name
from uhlp_core.settings import Settings

VALUE = "sk-correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture
def local(tmp_path: Path) -> LocalSecrets:
    return LocalSecrets(tmp_path / "home/secrets/apps.enc", tmp_path / "elsewhere/secrets.key")


def store(tmp_path: Path, **settings: object) -> SecretStore:
    given = {"home_dir": tmp_path / "home", "secrets_key_file": tmp_path / "elsewhere/secrets.key"}
    return SecretStore.of(Settings.load({}, **given, **settings))


def test_an_app_finds_its_own_secret_before_the_one_for_all(local: LocalSecrets) -> None:
    local.set(ALL_APPS, "openai", "shared")
    local.set("shop", "openai", VALUE)
    assert local.find("shop", "openai") == VALUE
    assert local.find("blog", "openai") == "shared"
    assert local.find("blog", "smtp") is None


def test_another_apps_secret_looks_like_one_that_is_not_there(tmp_path: Path, local: LocalSecrets) -> None:
    local.set("shop", "openai", VALUE)
    secrets = store(tmp_path)
    assert secrets.resolve("shop", "secret:openai") == VALUE
    with pytest.raises(SecretMissing) as foreign:
        secrets.resolve("blog", "secret:openai")
    with pytest.raises(SecretMissing) as absent:
        secrets.resolve("blog", "secret:nothing")
    assert str(foreign.value) == str(absent.value).replace("nothing", "openai").replace("NOTHING", "OPENAI")


def test_nothing_is_in_clear_in_the_data_folder_and_all_of_it_is_private(
    tmp_path: Path, local: LocalSecrets
) -> None:
    local.set("shop", "openai", VALUE)
    for path in (tmp_path / "home").rglob("*"):
        if path.is_file():
            assert VALUE.encode() not in path.read_bytes()
            assert b"openai" not in path.read_bytes()
    for path in (tmp_path / "home/secrets/apps.enc", tmp_path / "elsewhere/secrets.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_lost_or_wrong_key_says_so_and_loses_nothing(tmp_path: Path, local: LocalSecrets) -> None:
    local.set("shop", "openai", VALUE)
    key = tmp_path / "elsewhere/secrets.key"
    right = key.read_bytes()
    encrypted = (tmp_path / "home/secrets/apps.enc").read_bytes()
    fresh = LocalSecrets(tmp_path / "home/secrets/apps.enc", key)
    key.unlink()
    with pytest.raises(InvalidInput, match=r"secrets\.key is missing"):
        fresh.set("shop", "smtp", "x")
    key.write_bytes(Fernet.generate_key())
    with pytest.raises(InvalidInput, match="bring the right key back"):
        fresh.find("shop", "openai")
    key.write_bytes(b"short")
    with pytest.raises(InvalidInput, match="does not hold a key"):
        fresh.find("shop", "openai")
    assert (tmp_path / "home/secrets/apps.enc").read_bytes() == encrypted
    key.write_bytes(right)
    assert fresh.find("shop", "openai") == VALUE


def test_the_key_may_be_a_systemd_credential(
    tmp_path: Path, local: LocalSecrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uhlp-secrets-key").write_bytes(Fernet.generate_key() + b"\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    local.set("shop", "openai", VALUE)
    assert not (tmp_path / "elsewhere").exists()
    assert local.find("shop", "openai") == VALUE


def test_what_another_process_changes_is_seen(tmp_path: Path, local: LocalSecrets) -> None:
    local.set("shop", "openai", "old")
    other = LocalSecrets(tmp_path / "home/secrets/apps.enc", tmp_path / "elsewhere/secrets.key")
    assert other.find("shop", "openai") == "old"
    local.set("shop", "openai", VALUE)
    assert other.find("shop", "openai") == VALUE
    assert other.delete("shop", "openai") is True
    assert other.delete("shop", "openai") is False
    assert local.find("shop", "openai") is None


def test_processes_that_set_secrets_at_once_lose_none_and_make_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from uhlp_core.secrets import LocalSecrets;"
        "file, key, number = sys.argv[1:];"
        "LocalSecrets(Path(file), Path(key)).set('shop', 'name' + number, 'v' + number)"
    )
    file, key = tmp_path / "home/secrets/apps.enc", tmp_path / "elsewhere/secrets.key"
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(file), str(key), str(number)])
        for number in range(6)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 6
    found = LocalSecrets(file, key)
    assert [found.find("shop", f"name{number}") for number in range(6)] == [
        f"v{number}" for number in range(6)
    ]
    assert sorted(path.name for path in key.parent.iterdir()) == ["secrets.key"]


def test_a_changed_secret_is_in_use_within_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, value = 1000.0, "first"
    monkeypatch.setattr("uhlp_core.secrets.store.time", SimpleNamespace(monotonic=lambda: now))
    secrets = SecretStore((lambda app, name: value,))
    assert secrets.resolve("shop", "secret:db") == "first"
    value = "second"
    now += 29.9
    assert secrets.resolve("shop", "secret:db") == "first"
    now += 0.2
    assert secrets.resolve("shop", "secret:db") == "second"


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", "a__b", "-a", "a-", "a" * 65, "a\n"])
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not the name of a secret"):
        check_name(name)


def test_a_secret_given_in_place_of_a_reference_is_not_repeated(tmp_path: Path) -> None:
    for given in (VALUE, f"secret:{VALUE.upper()}", "secret:"):
        with pytest.raises(InvalidInput) as refused:
            store(tmp_path).resolve("shop", given)
        assert str(refused.value) == "expected a reference such as secret:openai, never the secret itself"


def test_the_environment_and_systemd_give_an_app_its_own_and_what_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UHLP_SECRET_MY_SHOP__SMTP_PASSWORD", "own")
    monkeypatch.setenv("UHLP_SHARED_SECRET_SMTP_PASSWORD", "shared")
    (tmp_path / "secret.blog.openai").write_text("by credential\n")
    (tmp_path / "shared-secret.mail").write_text("for all\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secrets = store(tmp_path)
    assert secrets.resolve("my-shop", "secret:smtp-password") == "own"
    assert secrets.resolve("blog", "secret:smtp-password") == "shared"
    assert secrets.resolve("blog", "secret:openai") == "by credential"
    assert secrets.resolve("my-shop", "secret:mail") == "for all"
    with pytest.raises(SecretMissing, match="UHLP_SECRET_MY_SHOP__OPENAI"):
        secrets.resolve("my-shop", "secret:openai")


@contextmanager
def vault(answers: dict[str, tuple[int, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A server that speaks the read of a key-value engine, version 2; its URL, and the tokens it was sent."""
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["X-Vault-Token"])
            status, body = answers.get(self.path, (404, b'{"errors":[]}'))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", body.decode())
                body = b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", tokens
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def kv(value: str) -> tuple[int, bytes]:
    return 200, json.dumps({"data": {"data": {"value": value}, "metadata": {"version": 1}}}).encode()


def test_vault(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hvs.token\n")
    answers = {
        "/v1/kv/data/uhlp/shop/openai": kv(VALUE),
        "/v1/kv/data/uhlp/_shared/mail": kv("for all"),
        "/v1/kv/data/uhlp/shop/denied": (403, b'{"errors":["permission denied"]}'),
        "/v1/kv/data/uhlp/shop/odd": (200, b"[]"),
        "/v1/kv/data/uhlp/shop/moved": (302, b"http://127.0.0.1:1/steal"),
    }
    with vault(answers) as (url, tokens):
        secrets = store(tmp_path, vault_address=url, vault_mount="kv", vault_token_file=tmp_path / "token")
        assert secrets.resolve("shop", "secret:openai") == VALUE
        assert secrets.resolve("shop", "secret:mail") == "for all"
        with pytest.raises(SecretMissing):
            secrets.resolve("blog", "secret:openai")
        for name, told in (("denied", "may have expired"), ("odd", "something else"), ("moved", "302")):
            with pytest.raises(SecretsUnavailable, match=told) as refused:
                secrets.resolve("shop", f"secret:{name}")
            assert "hvs.token" not in str(refused.value)
        assert set(tokens) == {"hvs.token"}
    with pytest.raises(SecretsUnavailable, match="cannot be reached"):
        secrets.resolve("shop", "secret:another")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"\x16\x03\x01 nonsense\r\n\r\n", "does not speak HTTP as Vault does .BadStatusLine.; check the"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", "does not speak HTTP .* .LineTooLong."),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, "something else than a secret"),
    ],
)
def test_what_is_no_vault_is_a_source_that_is_away(tmp_path: Path, answer: bytes, told: str) -> None:
    (tmp_path / "token").write_text("hvs.token\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        secrets = store(tmp_path, vault_address=url, vault_token_file=tmp_path / "token")
        with pytest.raises(SecretsUnavailable, match=told):
            secrets.resolve("shop", "secret:openai")
        thread.join()


@pytest.fixture
def gpg_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The fingerprint of a key that whoever runs here has."""
    if not shutil.which("gpg"):
        missing("GnuPG is not installed; `apt-get install gnupg` does that")
    home = tempfile.mkdtemp(prefix="gpg-")  # a short path: its agent listens there
    monkeypatch.setenv("GNUPGHOME", home)

    def gpg(*arguments: str) -> str:
        command = ["gpg", "--batch", "--quiet", "--passphrase", "", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    gpg("--quick-generate-key", "ada@example.invalid", "rsa2048", "cert")
    listing = gpg("--list-keys", "--with-colons")
    fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
    gpg("--quick-add-key", fingerprint, "rsa2048", "encrypt")
    yield fingerprint
    subprocess.run(["gpgconf", "--kill", "all"], check=True)
    # That does not wait for the agent, which removes its sockets as it ends.
    wait_until(lambda: not list(Path(home).glob("S.*")), "the agent has ended")
    shutil.rmtree(home)


def test_sops(tmp_path: Path, gpg_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{sops()}:{os.environ['PATH']}")
    file = tmp_path / "secrets.enc.yaml"
    plain = tmp_path / "plain.yaml"
    plain.write_text(json.dumps({"apps": {"shop": {"openai": VALUE}}, "shared": {"mail": "for all"}}))
    encrypted = subprocess.run(
        ["sops", "--encrypt", "--pgp", gpg_key, plain], check=True, capture_output=True
    )
    file.write_bytes(encrypted.stdout)
    assert VALUE not in file.read_text()

    secrets = store(tmp_path, secrets_sops_file=file)
    assert secrets.resolve("shop", "secret:openai") == VALUE
    assert secrets.resolve("blog", "secret:mail") == "for all"
    with pytest.raises(SecretMissing):
        secrets.resolve("blog", "secret:openai")

    file.write_bytes(encrypted.stdout.replace(b"data:", b"data:AAAA", 1))
    with pytest.raises(SecretsUnavailable, match=r"sops cannot decrypt .*secrets\.enc\.yaml"):
        store(tmp_path, secrets_sops_file=file).resolve("shop", "secret:openai")


def test_sops_that_fails_tells_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secrets.enc.yaml"
    file.touch()
    program = tmp_path / "bin/sops"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho {VALUE} >&2; echo 'no key could decrypt it' >&2; exit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(SecretsUnavailable, match="no key could decrypt it") as refused:
        store(tmp_path, secrets_sops_file=file).resolve("shop", "secret:openai")
    assert VALUE not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "it must be a mapping with apps: and shared:"),
        ("[" * 100_000, "it must be a mapping with apps: and shared:"),
        ('{"apps": ["shop"]}', "apps: must map each app to its secrets"),
        ('{"apps": {"shop": null}}', r"apps\.shop: must map names to secrets"),
        ('{"apps": {"shop": ["openai"]}}', r"apps\.shop: must map names to secrets"),
        ('{"apps": {"shop": {"openai": {"key": "x"}}}}', r"apps\.shop\.openai: must be one text"),
        ('{"shared": null}', "shared: must map names to secrets"),
    ],
)
def test_a_sops_file_of_another_shape_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, told: str
) -> None:
    file = tmp_path / "secrets.enc.yaml"
    file.write_text(content)
    program = tmp_path / "bin/sops"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat {file}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(SecretsUnavailable, match=f"enc.yaml: {told}; mend it with `sops edit`"):
        store(tmp_path, secrets_sops_file=file).resolve("shop", "secret:openai")
