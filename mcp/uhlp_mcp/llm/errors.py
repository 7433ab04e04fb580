"""How a call of a language model fails: one class per thing that a caller may do about it.

Texts never carry what a provider was sent, and what a provider says only with the credential taken out.
"""

from uhlp_core.errors import UhlpError


class LlmError(UhlpError):
    """Base of all failures. What follows from a failure is said by its class."""

    retryable = False
    """Whether the same model may answer when asked again."""
    next_model = False
    """Whether a fallback model is worth trying."""
    billed = False
    """Whether the provider may have done the work all the same, and want money for it."""

    def __init__(self, message: str, *, retry_after: float | None = None, billed: bool | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which asking again can help, where somebody said so."""
        if billed is not None:
            self.billed = billed


class NotConfigured(LlmError):
    """The app's definition lacks something that the call needs."""

    code = "LLM_NOT_CONFIGURED"


class RateLimited(LlmError):
    """Too many calls, by the app's own limits or by the provider's."""

    code = "LLM_RATE_LIMITED"
    retryable = True
    next_model = True


class TooBusy(RateLimited):
    """The app's own limits: another attempt would count against them again."""

    retryable = False
    next_model = False


class Refused(LlmError):
    """The model or its provider will not answer this."""

    code = "LLM_REFUSED"


class OverBudget(LlmError):
    """The day's budget does not cover the call."""

    code = "LLM_OVER_BUDGET"


class InvalidOutput(LlmError):
    """The answer is not in the format asked for, after all repairs."""

    code = "LLM_INVALID_OUTPUT"
    next_model = True


class TimedOut(LlmError):
    """No whole answer in time."""

    code = "LLM_TIMEOUT"
    next_model = True
    billed = True


class ProviderUnavailable(LlmError):
    """The provider cannot be reached, or fails."""

    code = "LLM_UNAVAILABLE"
    retryable = True
    next_model = True


class AnswerRefused(ProviderUnavailable):
    """The provider answers with more than is taken, or in a form that is not; it would do so again."""

    retryable = False
    billed = True


class BadRequest(LlmError):
    """The call itself is wrong."""

    code = "LLM_BAD_REQUEST"


class ModelRejected(BadRequest):
    """The provider says that the call is wrong; another model may take it."""

    next_model = True
