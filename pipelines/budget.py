"""Budget: what embedding may cost, and a refusal before it costs more."""

from pipelines.errors import GuardError
from pipelines.models import price_of
from pipelines.settings import Settings


def affordable_cost(settings: Settings, tokens: int) -> float | None:
    """US dollars for so many tokens. Raises GuardError when the budget does not allow them."""
    price = price_of(settings)
    cost = None if price is None else tokens * price / 1e6
    budget = settings.budget
    if budget.max_tokens is not None and tokens > budget.max_tokens:
        raise GuardError(
            f"{tokens:,} tokens are to be embedded, budget.max_tokens allows {budget.max_tokens:,}: nothing was sent. "
            "Raise it, or ingest less (source.limit)"
        )
    if budget.max_cost_usd is not None and cost is None and tokens:
        raise GuardError(
            "budget.max_cost_usd is set, but config/models.toml has no price for the model: write it there, or unset it"
        )
    if budget.max_cost_usd is not None and cost is not None and cost > budget.max_cost_usd:
        raise GuardError(
            f"{tokens:,} tokens would cost {cost:.4f} USD, budget.max_cost_usd allows {budget.max_cost_usd:.4f}: "
            "nothing was sent. Raise it, or ingest less (source.limit)"
        )
    return cost
