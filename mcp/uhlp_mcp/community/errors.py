"""What can go wrong with a server that is not ours."""

from uhlp_core.errors import UhlpError, Unavailable


class ServerUnavailable(Unavailable):
    """The server cannot be reached or started at the moment; `retry_after` says when it is tried again."""

    code = "MCP_SERVER_UNAVAILABLE"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerFailed(UhlpError):
    """The server answered a call with an error, or not as the protocol asks; `code` says which."""

    code = "MCP_SERVER_FAILED"


class ToolChanged(UhlpError):
    """What the server says of the tool is not what was approved; it is held back."""

    code = "TOOL_CHANGED"
