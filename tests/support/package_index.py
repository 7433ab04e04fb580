"""A package index and an npm registry of a test's own, on this machine, with packages made by the test."""

import base64
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def wheel(name: str, version: str, files: Mapping[str, str | bytes]) -> tuple[str, bytes]:
    """A wheel's file name and content."""
    info = f"{name}-{version}.dist-info"
    content: dict[str, str | bytes] = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, data_or_text in {**content, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path), data_or_text)
    return f"{name}-{version}-py3-none-any.whl", data.getvalue()


def archive(folder: str, files: dict[str, str]) -> bytes:
    """A .tar.gz with one folder: a source distribution, or an npm package."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{folder}/{path}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


def integrity(data: bytes) -> str:
    """A content's hash as npm writes it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def npm_lists(name: str, version: str, integrity: str) -> dict[str, str]:
    """The files of an app that asks for one npm package, and locks it."""
    package = {"name": "app", "version": "1.0.0", "dependencies": {name: f"^{version}"}}
    # The address is not looked at: where packages come from is the operator's to say.
    locked = {"version": version, "resolved": f"http://elsewhere.invalid/{name}.tgz", "integrity": integrity}
    lock = {
        "name": "app",
        "version": "1.0.0",
        "lockfileVersion": 3,
        "packages": {"": package, f"node_modules/{name}": locked},
    }
    return {"state/package.json": json.dumps(package), "state/package-lock.json": json.dumps(lock)}


class PackageIndex:
    """Serves what it was given; remembers what it was asked for."""

    def __init__(self, host: str) -> None:
        self._python: dict[str, dict[str, bytes]] = {}
        self._npm: dict[str, tuple[str, bytes]] = {}
        self.asked: list[str] = []
        self.is_away = False
        """Answers every request with 503."""
        self.hold = threading.Event()
        """While cleared, files are not handed out."""
        self.hold.set()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                found = None if index.is_away else index._answer(self.path, self.headers["Host"])
                self.send_response(503 if index.is_away else 200 if found else 404)
                kind, body = found or ("text/plain", b"")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def add(self, project: str, file: str, data: bytes) -> None:
        """Offer a wheel or a source distribution of a Python project."""
        self._python.setdefault(project, {})[file] = data

    def add_wheel(self, name: str, version: str, files: Mapping[str, str | bytes]) -> str:
        """Make and offer a wheel; its hash, as requirements name it."""
        file, data = wheel(name, version, files)
        self.add(name, file, data)
        return "sha256:" + hashlib.sha256(data).hexdigest()

    def add_npm(self, name: str, version: str, files: dict[str, str]) -> str:
        """Make and offer an npm package; its integrity, as locks name it."""
        manifest = json.dumps({"name": name, "version": version, "main": "index.js"})
        data = archive("package", {"package.json": manifest, **files})
        self._npm[name] = (version, data)
        return integrity(data)

    def _answer(self, path: str, host: str) -> tuple[str, bytes] | None:
        parts = path.strip("/").split("/")
        match parts:
            case ["simple", project] if project in self._python:
                links = "".join(
                    f'<a href="/files/{project}/{file}">{file}</a>' for file in self._python[project]
                )
                return "text/html", f"<html><body>{links}</body></html>".encode()
            case ["files", project, file] if file in self._python.get(project, {}):
                self.hold.wait()
                return "application/octet-stream", self._python[project][file]
            case ["npm", name] if name in self._npm:
                version, data = self._npm[name]
                dist = {"tarball": f"http://{host}/tarballs/{name}.tgz", "integrity": integrity(data)}
                manifest = {"name": name, "version": version, "dist": dist}
                packument = {"name": name, "dist-tags": {"latest": version}, "versions": {version: manifest}}
                return "application/json", json.dumps(packument).encode()
            case ["tarballs", file] if file.removesuffix(".tgz") in self._npm:
                self.hold.wait()
                return "application/octet-stream", self._npm[file.removesuffix(".tgz")][1]
        return None

    def __enter__(self) -> "PackageIndex":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def package_index(host: str = "127.0.0.1") -> Iterator[PackageIndex]:
    """An index that listens at this address of this machine."""
    with PackageIndex(host) as index:
        yield index
