"""What tokens cost, from the app's own prices or a price list that comes with the platform. Never a guess."""

from decimal import ROUND_CEILING, Decimal

from uhlp_state.model import LlmProvider, LlmProviderType

NANOS = 1_000_000_000
"""Money is counted in whole billionths of a dollar, which Redis adds up without rounding."""

_MILLION = 1_000_000


def cost(provider: LlmProvider, model: str, input_tokens: int, output_tokens: int) -> int | None:
    """The price of so many tokens in billionths of a US dollar, rounded up; None where it is unknown."""
    if (price := provider.prices.get(model)) is not None:
        dollars = (
            Decimal(str(price.input_per_million)) * input_tokens
            + Decimal(str(price.output_per_million)) * output_tokens
        ) / _MILLION
    elif provider.type is LlmProviderType.SCRIPTED:
        return 0
    else:
        listed = _listed(provider, model, input_tokens, output_tokens)
        if listed is None:
            return None
        dollars = listed
    return int((dollars * NANOS).to_integral_value(ROUND_CEILING))


def _listed(provider: LlmProvider, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
    from genai_prices import Usage, calc_price  # 0.2 s, which only apps with a provider pay

    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    try:
        if provider.base_url is not None:
            return calc_price(usage, model, provider_api_url=provider.base_url).total_price
        return calc_price(usage, model, provider_id=provider.type.value).total_price
    except LookupError:
        return None


def dollars(nanos: int) -> float:
    """Billionths of a dollar as dollars, for people."""
    return nanos / NANOS
