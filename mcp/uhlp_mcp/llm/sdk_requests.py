"""How the clients of both SDKs make their requests here: of what goes out, and of nothing else.

What they would do for each request (join addresses, merge some twenty headers, few of which reach the wire)
takes longer than all the rest of asking. Sending, streams and failures stay theirs.
"""

import json
from functools import cached_property
from typing import Any

import httpx2

from uhlp_mcp.llm.errors import BadRequest
from uhlp_mcp.llm.wire import SENT_HEADERS

OPTIONS: Any = {"timeout": None, "max_retries": 0, "idempotency_key": "unused"}
"""Of requests: what the SDKs would else work out for each, and what is bounded or left out on the wire."""


class DirectRequests:
    """A base to be named before an SDK's client, of which it replaces one step.

    That step is no public part of the SDKs, though both have it alike; if one ever moves it, its requests get
    slower again, and no different.
    """

    _client: httpx2.AsyncClient
    default_headers: Any

    @cached_property
    def _own_headers(self) -> list[tuple[str, str]]:
        headers: dict[str, Any] = self.default_headers
        return [(name, value) for name, value in headers.items() if name.lower() in SENT_HEADERS]

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> httpx2.Request:
        try:
            text = json.dumps(options.json_data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            body = text.encode()
        except ValueError as error:
            # Nothing was sent, so it must not look like an answer that cannot be read, which is billed.
            raise BadRequest(f"the request cannot be written as JSON: {error}") from None
        return self._client.build_request(
            options.method, options.url, headers=self._own_headers, content=body
        )
