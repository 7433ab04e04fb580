"""The Docker engine of this machine: the few calls that sandboxes and their images need, typed.

The one module that knows the SDK. Every call blocks, and every error is a BackendError that says what to
do; what is not there is None, and never what could not be asked. Knows nothing of sandboxes.
"""

import contextlib
import shutil
import socket
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import CancellableStream
from docker.utils import kwargs_from_env

from .protocol import BackendError

CALL_SECONDS = 60.0
"""What an engine under heavy load may take to answer; a start of many containers queues up in it."""

DEFAULT_URL = "unix:///var/run/docker.sock"
"""Where the engine listens if DOCKER_HOST does not say otherwise."""

Details = dict[str, Any]
"""What the engine tells about one thing, under the engine's own names."""

_ERRORS = (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class Engine:
    """Connects at the first call, and again after the engine was away. May be used from any thread."""

    def __init__(self) -> None:
        self._connecting = threading.Lock()
        self._client: docker.APIClient | None = None

    def close(self) -> None:
        """Let go of the connections."""
        with self._connecting:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def info(self) -> Details:
        """The engine about itself."""
        with self._told("the Docker engine") as api:
            info: Details = api.info()
        return info

    # -- containers ------------------------------------------------------------------------------------

    def create(self, name: str, config: Details) -> str:
        """Create a container as the engine's API describes it; its id."""
        with self._told(name) as api:
            created: Details = api.create_container_from_config(config, name)
        return str(created["Id"])

    def start(self, container: str) -> None:
        """Start a created container."""
        with self._told(f"container {container:.12}") as api:
            api.start(container)

    def inspect(self, container: str) -> Details | None:
        """Everything about a container."""
        with self._told(f"container {container:.12}") as api, contextlib.suppress(NotFound):
            details: Details = api.inspect_container(container)
            return details
        return None

    def containers(self, labels: Mapping[str, str]) -> list[str]:
        """The ids of all containers, running or not, that bear all of these labels."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        with self._told("the list of containers") as api:
            return [found["Id"] for found in api.containers(all=True, filters={"label": wanted})]

    def signal(self, container: str, name: str) -> None:
        """Send a signal to a container's main process; one that does not run is left as it is."""
        with self._told(f"container {container:.12}") as api:
            try:
                api.kill(container, name)
            except APIError as error:
                if error.status_code not in (404, 409):
                    raise

    def await_stop(self, container: str, seconds: float) -> None:
        """Return once a container does not run any more, at the latest after so long."""
        with (
            self._told(f"container {container:.12}") as api,
            # The SDK tells of a timeout by either; whether the engine is away, the next call tells.
            contextlib.suppress(NotFound, requests.ReadTimeout, requests.ConnectionError),
        ):
            api.wait(container, timeout=seconds)

    def remove(self, container: str) -> None:
        """Kill a container, if it runs, and remove it, or wait for whoever is removing it already."""
        with self._told(f"container {container:.12}") as api, contextlib.suppress(NotFound):
            try:
                api.remove_container(container, v=True, force=True)
            except APIError as error:
                if error.status_code != 409:
                    raise
                api.wait(container, timeout=CALL_SECONDS, condition="removed")

    def output(self, container: str) -> str:
        """What a container has written to its standard output and error."""
        with self._told(f"container {container:.12}") as api:
            output: bytes = api.logs(container)
        return output.decode(errors="replace")

    def events(self, filters: Mapping[str, Sequence[str]]) -> CancellableStream:
        """What happens from now on, until the stream is closed or the engine ends."""
        with self._told("the engine's events") as api:
            return api.events(filters=dict(filters), decode=True)

    # -- images ----------------------------------------------------------------------------------------

    def image(self, reference: str) -> Details | None:
        """Everything about an image of this machine."""
        with self._told(f"image {reference}") as api, contextlib.suppress(ImageNotFound):
            details: Details = api.inspect_image(reference)
            return details
        return None

    def images(self, label: str) -> list[Details]:
        """The images of this machine that bear a label."""
        with self._told("the list of images") as api:
            found: list[Details] = api.images(filters={"label": label})
        return found

    def pull(self, repository: str, tag: str) -> Iterator[Details]:
        """Fetch an image from its registry; yields the engine's progress."""
        with self._told(f"image {repository}:{tag}") as api:
            yield from api.pull(repository, tag, stream=True, decode=True)

    def build(
        self, context: IO[bytes], tag: str, arguments: Mapping[str, str], labels: Mapping[str, str]
    ) -> Iterator[Details]:
        """Build an image from a tar with a Dockerfile, without network; yields the engine's progress."""
        with self._told(f"image {tag}") as api:
            yield from api.build(
                fileobj=context,
                custom_context=True,
                tag=tag,
                buildargs=dict(arguments),
                labels=dict(labels),
                network_mode="none",
                rm=True,
                forcerm=True,
                decode=True,
            )

    def load_root(self, archive: Path, repository: str, tag: str) -> None:
        """Make an image of one layer from the tar of a root file system."""
        with self._told(f"image {repository}:{tag}") as api:
            api.import_image_from_file(str(archive), repository=repository, tag=tag)

    def copy_out(self, image: str, path: str, target: Path) -> None:
        """Write the content of one regular file of an image to `target`."""
        with self._told(f"{path} of image {image}") as api, tempfile.TemporaryFile() as archive:
            container = api.create_container(image, ["true"])["Id"]
            try:
                parts, _ = api.get_archive(container, path)
                archive.writelines(parts)
            finally:
                api.remove_container(container)
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                content = tar.extractfile(tar.getmembers()[0])
                assert content is not None, "an image has a file there, and no folder"
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)

    # -- connection ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[docker.APIClient]:
        """The connected client; whatever goes wrong with it is told as a BackendError about `what`."""
        try:
            yield self._connected()
        except APIError as error:
            raise BackendError(f"{what}: the Docker engine says: {error.explanation or error}") from error
        except _ERRORS as error:
            self.close()
            raise BackendError(
                f"{what}: the Docker engine does not answer ({error}); start it, or see `docker info`"
            ) from error

    def _connected(self) -> docker.APIClient:
        with self._connecting:
            if self._client is None:
                options = kwargs_from_env()
                _knock(options.get("base_url", DEFAULT_URL))
                self._client = docker.APIClient(**options, version="auto", timeout=CALL_SECONDS)
            return self._client


def _knock(url: str) -> None:
    """Raise OSError if nobody listens there: the SDK would find out too, but leave its socket open."""
    scheme, _, path = url.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
