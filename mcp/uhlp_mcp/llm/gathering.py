"""Puts an answer together from its pieces, within bounds, and tells them on."""

from uhlp_mcp.llm.errors import AnswerRefused
from uhlp_mcp.llm.provider import MAX_COMPLETION_BYTES
from uhlp_mcp.tools import Emit


class Gathered:
    """The text of one answer as it grows."""

    def __init__(self, emit: Emit | None) -> None:
        self._emit = emit
        self._pieces: list[str] = []
        self._size = 0

    async def add(self, piece: str) -> None:
        """Take one piece. Raises AnswerRefused when the answer grows too large."""
        encoded = piece.encode(errors="replace")
        self._size += len(encoded)
        if self._size > MAX_COMPLETION_BYTES:
            raise AnswerRefused(f"the answer is larger than {MAX_COMPLETION_BYTES} bytes; ask for less")
        # JSON can spell half a surrogate pair, which is no text and cannot be sent on.
        text = encoded.decode()
        self._pieces.append(text)
        if self._emit is not None and text:
            await self._emit(text)

    @property
    def text(self) -> str:
        return "".join(self._pieces)
