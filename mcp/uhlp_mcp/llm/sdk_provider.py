"""What providers on an SDK share: whole or streamed, and one place where the SDK's failures become ours."""

import json
from abc import ABC, abstractmethod
from typing import Any

import httpx2

from uhlp_mcp.llm.errors import LlmError
from uhlp_mcp.llm.provider import Completion, Request
from uhlp_mcp.llm.sdk_failures import failure
from uhlp_mcp.tools import Emit

UNUSED_KEY = "set-on-the-wire"
"""The SDKs insist on a key, and would else take one from this process's environment."""


def parsed(response: httpx2.Response) -> Any:
    """The JSON of an answer, which is in UTF-8 as it was weighed. Raises ValueError and RecursionError."""
    return json.loads(response.content.decode())


class SdkProvider(ABC):
    """One provider of one app."""

    def __init__(self, sdk_error: type[Exception], key: str | None) -> None:
        """`sdk_error` is the base of all that the SDK raises; `key` is taken out of what errors say."""
        self._sdk_error = sdk_error
        self._key = key

    async def complete(self, request: Request, emit: Emit | None) -> Completion:
        """See Provider.complete."""
        try:
            if emit is None:
                return await self._whole(request)
            return await self._streamed(request, emit)
        except LlmError:
            raise
        except (
            self._sdk_error,
            httpx2.HTTPError,
            ValueError,
            TypeError,
            AttributeError,
            LookupError,
            RecursionError,
        ) as error:
            # The last five: the SDK hands over whatever JSON it got, of any shape and depth.
            failed = failure(error, self._key)
        raise failed

    @abstractmethod
    async def _whole(self, request: Request) -> Completion:
        """The answer in one piece."""

    @abstractmethod
    async def _streamed(self, request: Request, emit: Emit) -> Completion:
        """The answer, each piece of which is emitted as it comes."""
