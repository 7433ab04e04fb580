"""Settings of one installation: defaults, then `<home>/config.yaml`, then `UHLP_*` variables, then flags.

A wrong value is refused with the place that it came from.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uhlp_core.errors import InvalidInput
from uhlp_core.home import Home
from uhlp_core.ids import Deployment

DEFAULT_HOME = Path("~/.uhlp")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseModel):
    """Every setting, with its unit and default; `UHLP_<NAME>` is the variable of each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home_dir: Path = Field(DEFAULT_HOME, description="The data folder.")
    domain: str = Field("localhost", description="Apps are served at <app>.<domain>.")
    bind: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the gateway; 0 takes any free one.")
    control_bind: str = Field("127.0.0.1", description="Address of the control surface (Git over HTTP).")
    control_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the control surface; by default the gateway's plus one."
    )
    gateways: int = Field(1, ge=1, le=64, description="Gateway processes that share the port.")
    redis: str | None = Field(None, description="URL of a Redis to use instead of the embedded one.")
    operator_token: str | None = Field(
        None, repr=False, description="What Git clients send as password. Required beyond loopback."
    )
    push_wait_seconds: float = Field(
        10.0, ge=0, le=600, description="How long a push waits to tell that its commit is live."
    )
    ref_watch: bool = Field(True, description="Notice moved refs by file events.")
    ref_poll_seconds: float = Field(
        1.0, ge=0, le=60, description="Look at every repo's refs this often; 0 never (file events only)."
    )
    isolation: Literal["auto", "process", "docker"] = Field(
        "auto",
        description="What a pool with `isolation: auto` gets; auto is containers where the Docker engine "
        "answers and the image is there at the first start of an instance, else processes.",
    )
    preview_idle_seconds: float = Field(
        300.0, ge=1, description="A preview's instances stop after this long without a request."
    )
    llm_private_addresses: bool = Field(
        False,
        description="Let the LLM providers of apps be on this machine or a private network, over plain "
        "http too (Ollama, vLLM). Whoever pushes an app can then reach those networks.",
    )
    max_push_bytes: int = Field(
        200 * 1024 * 1024, ge=1024, description="Largest pack that a push may send, in bytes."
    )
    secrets_key_file: Path | None = Field(
        None,
        description="The key of the secrets in the data folder, outside of it; by default "
        "/etc/uhlp/secrets.key for root, else ~/.config/uhlp/secrets.key.",
    )
    secrets_sops_file: Path | None = Field(
        None, description="A file encrypted with SOPS that holds secrets as well."
    )
    vault_address: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        description="URL of a HashiCorp Vault or OpenBao that holds secrets as well.",
    )
    vault_mount: str = Field("secret", description="Mount of its key-value engine, version 2.")
    vault_prefix: str = Field(
        "uhlp", description="Path in it, under which <app>/<name> and _shared/<name> lie."
    )
    vault_token_file: Path = Field(
        Path("/etc/uhlp/vault-token"), description="File that holds the token for it."
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="Of the daemons' own logs; auto is text on a terminal, else JSON lines."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def home(self) -> Home:
        return Home(self.home_dir.expanduser().absolute())

    @property
    def embedded_redis(self) -> bool:
        return self.redis is None

    @property
    def redis_url(self) -> str:
        return self.redis or f"unix://{self.home.run / 'redis.sock'}"

    @property
    def effective_control_port(self) -> int:
        if self.control_port is not None:
            return self.control_port
        return self.port + 1 if self.port else 0

    @property
    def effective_secrets_key_file(self) -> Path:
        if self.secrets_key_file is not None:
            return self.secrets_key_file.expanduser()
        folder = Path("/etc") if os.geteuid() == 0 else Path("~/.config").expanduser()
        return folder / "uhlp/secrets.key"

    def app_url(self, deployment: Deployment) -> str:
        """Where a deployment is served, by host name."""
        return f"http://{deployment.host_label}.{self.domain}:{self.port}/"

    def check_exposure(self) -> None:
        """Raise InvalidInput if the control surface would be open to others without a token."""
        if self.control_bind not in LOOPBACK and not self.operator_token:
            raise InvalidInput(
                f"control_bind is {self.control_bind}, which others can reach, and no operator token is set: "
                "give UHLP_OPERATOR_TOKEN (Git clients send it as their password), or bind to 127.0.0.1",
                code="OPERATOR_TOKEN_REQUIRED",
            )

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, **flags: Any) -> Self:
        """Merge defaults, file, environment and flags (None flags are ignored). Raises InvalidInput."""
        environment = os.environ if environment is None else environment
        flags = {name: value for name, value in flags.items() if value is not None}
        values: dict[str, Any] = {}
        origin: dict[str, str] = {}

        def take(more: Mapping[str, Any], where: str) -> None:
            for name, value in more.items():
                values[name], origin[name] = value, f"{where} ({name})"

        variables = {
            name: environment[f"UHLP_{name.upper()}"]
            for name in cls.model_fields
            if environment.get(f"UHLP_{name.upper()}")
        }
        if environment.get("UHLP_HOME"):
            variables["home_dir"] = environment["UHLP_HOME"]
        home = flags.get("home_dir") or variables.get("home_dir") or DEFAULT_HOME
        config = Home(Path(home).expanduser().absolute()).config
        if config.exists():
            take(_read_config(config), str(config))
        take(variables, "environment variable UHLP_*")
        take(flags, "command line")
        values["home_dir"] = home
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise InvalidInput(f"{origin.get(name, name)}: {first['msg']}") from None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InvalidInput(f"{path}: expected a mapping of setting: value at the top")
    return {str(key): value for key, value in content.items()}
