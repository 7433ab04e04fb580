"""The small family of errors that cross module borders, each with what a caller may do about it."""


class UhlpError(Exception):
    """Base of every error of ours. `code` is stable and upper-case; the text is for people."""

    code = "INTERNAL_ERROR"
    retry_after: float | None = None
    """Seconds after which trying again can help, where somebody said so."""
    scripted = False
    """Whether a script of the app's said so, which stands in for a language model."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def saying(self, message: str, code: str | None = None) -> "UhlpError":
        """This error for whoever it is told, in other words."""
        told = UhlpError(message, code=code or self.code)
        told.retry_after, told.scripted = self.retry_after, self.scripted
        return told


class InvalidInput(UhlpError):
    """What was given cannot be used as it is; the text says what is wrong and how to mend it."""

    code = "INVALID_INPUT"


class NotFound(UhlpError):
    """What was named does not exist (or may not be seen, which must look the same)."""

    code = "NOT_FOUND"


class Conflict(UhlpError):
    """Somebody else was first: read again and decide anew."""

    code = "CONFLICT"


class Unavailable(UhlpError):
    """Something needed is not there at the moment; trying again later can help."""

    code = "UNAVAILABLE"


class QuotaExceeded(UhlpError):
    """The app would take more than the platform gives one app; the text says of what, and what to do."""

    code = "QUOTA_EXCEEDED"
