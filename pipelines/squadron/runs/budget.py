"""Budget: what embedding may cost; a refusal before it costs more, and a stop when the estimate was too low."""

import logging
from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import Any, TypedDict

import pyarrow as pa

from squadron.errors import GuardError
from squadron.runs.results import Plan
from squadron.settings.known_models import price_of
from squadron.settings.schema import Settings
from squadron.staging import shards as staging
from squadron.staging.shards import Shard

log = logging.getLogger(__name__)

ALERTS = (0.5, 0.8, 1.0)
"""The shares of each limit that are told, once each per run."""


class BudgetShare(TypedDict):
    """A share of a limit that a run has reached."""

    collection: str
    run_id: str
    limit: str
    """The setting, e.g. `budget.max_tokens`."""
    fraction: float
    spent: float
    """Tokens or US dollars, as the limit counts."""
    allowed: float


Alert = Callable[[BudgetShare], None]
"""Called once per run for each share that is reached."""
Usage = Counter[tuple[str, str]]
"""(`billed`, ''): tokens the service says it billed; (`counted`, ''): tokens sent, as the tokenizer counts them;
(`answered` | `failed`, host): requests; (`submitted` | `batched`, job): a batch job's tokens, as the tokenizer counts
them, and as they were billed when it had ended, which are among `billed`."""


def affordable_cost(settings: Settings, tokens: int) -> float | None:
    """US dollars for so many tokens. Raises GuardError when the budget does not allow them."""
    price = price_of(settings)
    cost = None if price is None else tokens * price / 1e6
    budget = settings.budget
    if budget.max_tokens is not None and tokens > budget.max_tokens:
        raise GuardError(
            f"{tokens:,} tokens are to be embedded, budget.max_tokens allows {budget.max_tokens:,}: they were not "
            "sent. Raise it for this run"
        )
    if budget.max_cost_usd is not None and cost is None and tokens:
        raise GuardError(
            "budget.max_cost_usd is set, but config/models.toml has no price for the model: write it there, or unset it"
        )
    if budget.max_cost_usd is not None and cost is not None and cost > budget.max_cost_usd:
        raise GuardError(
            f"{tokens:,} tokens would cost {cost:.4f} USD, budget.max_cost_usd allows {budget.max_cost_usd:.4f}: "
            "they were not sent. Raise it for this run"
        )
    return cost


class Spending:
    """What a run spends on embedding, as one of its shards sees it: its own tokens, and those of all others.

    Every shard keeps a file of its own in the run's staging folder, written anew after each batch, and adds up
    those of all shards: workers need nothing but the staging that they share. A shard that is tried again goes on
    from what its earlier tries have spent. Workers see each other's batches when they are done, so a run spends at
    most the batches under way beyond its budget.
    """

    def __init__(
        self, settings: Settings, plan: Plan, shard: Shard, counters: Callable[[], Usage], alert: Alert | None = None
    ) -> None:
        """`counters`: what the service's model has done in this process so far, for whatever shard."""
        self._collection, self._run_id = plan.collection, plan.run_id
        self._price = price_of(settings)
        self._limits = _limits(settings)
        self._folder = f"{plan.folder}/{staging.SPENT}"
        self._path = f"{self._folder}/shard-{shard.number:05d}.parquet"
        self._counters, self._alert = counters, alert
        self._lock = Lock()
        self._earlier = _read(self._path) if self._path in self._files() else Usage()
        self._begun = counters()
        self._sent = Usage()
        self._kept = self._earlier
        self._tokens = self._of_all_shards()

    def note(self, tokens_sent: int) -> None:
        """Take notice of what was billed since the last time, by `tokens_sent` if the service does not say; alert."""
        with self._lock:
            self._sent["counted", ""] += tokens_sent
            usage = self.usage()
            is_recorded = self._limits or usage["billed", ""] or by_endpoint(usage)
            if usage == self._kept or not is_recorded:
                return
            self._keep()
        self._tell()

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget."""
        return bool(self._limits)

    @property
    def knows_a_batch(self) -> bool:
        """Whether a batch job of this run has ended, so that what is billed is known."""
        return any(what == "batched" for what, _ in self._all())

    def note_batch(self, job: str, billed_tokens: int) -> None:
        """Take notice of what a batch job that has ended was billed; alert. To be told again changes nothing."""
        with self._lock:
            more = billed_tokens - self._earlier["batched", job]
            if more <= 0:
                return
            self._earlier += Usage({("batched", job): more, ("billed", ""): more})
            self._keep()
        self._tell()

    def owns(self, job: str) -> bool:
        """Whether it is this shard that counts a batch job: of all that find texts of theirs in it, the first."""
        return staging.claimed(f"{self._folder}/{job}.owner", self._path)

    def admit_batch(self, job: str, tokens: int) -> None:
        """Take notice of a batch job of so many tokens that is to be submitted.

        Raises GuardError, and the job is not to be, when it would exceed the budget together with what was billed
        and what is under way: estimates are corrected by what the jobs that have ended were billed.
        """
        with self._lock:
            used = self._all()
            submitted = {name: number for (what, name), number in used.items() if what == "submitted"}
            ended = {name for what, name in used if what == "batched" and name in submitted}
            estimated = sum(submitted[name] for name in ended)
            factor = max(1.0, sum(used["batched", name] for name in ended) / estimated) if estimated else 1.0
            under_way = sum(number for name, number in submitted.items() if name not in ended and name != job)
            expected = self._of_all_shards() + factor * (under_way + tokens)
            for setting, allowed, unit in self._limits:
                if (amount := expected if unit == "tokens" else expected * (self._price or 0.0) / 1e6) > allowed:
                    raise GuardError(
                        f"with the next batch the run would spend {_amount(amount, unit)}, {setting} allows "
                        f"{_amount(allowed, unit)} (the service billed {factor:.2f} times the estimate): it was not "
                        "submitted. What was paid for is kept, and so is what is under way: raise the limit and ingest "
                        "again, and only the rest is sent"
                    )
            if self._limits and not self._earlier["submitted", job]:
                self._earlier["submitted", job] = tokens
                self._keep()

    def check(self) -> None:
        """Raise GuardError when the run has spent more than its budget: to be asked before anything more is sent."""
        for setting, allowed, unit in self._limits:
            if (spent := self._spent(unit)) > allowed:
                raise GuardError(
                    f"the run has spent {_amount(spent, unit)}, {setting} allows {_amount(allowed, unit)}: it was "
                    "stopped. What was paid for is kept in the cache and the store: raise the limit and ingest again, "
                    "and only the rest is sent"
                )

    def usage(self) -> Usage:
        """What this shard has used, its earlier tries included."""
        return self._earlier + (self._counters() - self._begun) + self._sent

    def cost(self) -> float | None:
        """US dollars for what the service billed this shard; None when its price is not known, or it tells nothing."""
        usage = self.usage()
        untold = usage["counted", ""] and not usage["billed", ""]
        return None if self._price is None or (self._price and untold) else usage["billed", ""] * self._price / 1e6

    def _tell(self) -> None:
        for setting, allowed, unit in self._limits:
            spent = self._spent(unit)
            for fraction in ALERTS:
                if not spent or spent < fraction * allowed:
                    break
                if staging.claimed(f"{self._folder}/{setting}-{100 * fraction:.0f}"):
                    log.warning(
                        "%s: %.0f %% of %s is spent: %s of %s",
                        *(self._collection, 100 * fraction, setting, _amount(spent, unit), _amount(allowed, unit)),
                    )
                    if self._alert:
                        self._alert(
                            BudgetShare(
                                collection=self._collection,
                                run_id=self._run_id,
                                limit=setting,
                                fraction=fraction,
                                spent=spent,
                                allowed=allowed,
                            )
                        )

    def _spent(self, unit: str) -> float:
        return self._tokens if unit == "tokens" else self._tokens * (self._price or 0.0) / 1e6

    def _keep(self) -> None:
        self._kept = self.usage()
        _write(self._path, self._kept)
        self._tokens = self._of_all_shards()

    def _of_all_shards(self) -> int:
        return sum(map(_tokens, self._shards())) if self._limits else 0

    def _all(self) -> Usage:
        return sum(self._shards(), Usage()) if self._limits else Usage()

    def _shards(self) -> list[Usage]:
        return [self._kept, *(_read(path) for path in self._files() if path != self._path)]

    def _files(self) -> list[str]:
        return [f"{self._folder}/{name}" for name in staging.names(self._folder) if name.endswith(".parquet")]


def model_counters(model: Any) -> Usage:
    """The counters of a remote model (`RemoteModel`); of any other, or before it is loaded, none."""
    usage = Usage({("billed", ""): getattr(model, "billed_tokens", 0)})
    for what in ("answered", "failed"):
        usage.update({(what, host): requests for host, requests in getattr(model, what, {}).items()})
    return usage


def by_endpoint(usage: Usage) -> dict[str, dict[str, int]]:
    """Host -> requests answered and failed."""
    hosts = sorted({host for what, host in usage if what in ("answered", "failed")})
    return {host: {what: usage[what, host] for what in ("answered", "failed")} for host in hosts}


def _limits(settings: Settings) -> list[tuple[str, float, str]]:
    """(setting, what it allows, unit) of the limits that are set."""
    budget = settings.budget
    limits = [("budget.max_tokens", budget.max_tokens, "tokens"), ("budget.max_cost_usd", budget.max_cost_usd, "USD")]
    return [(setting, allowed, unit) for setting, allowed, unit in limits if allowed is not None]


def _tokens(usage: Usage) -> int:
    return usage["billed", ""] or usage["counted", ""]


def _amount(amount: float, unit: str) -> str:
    return f"{amount:,.0f} tokens" if unit == "tokens" else f"{amount:.4f} USD"


def _read(path: str) -> Usage:
    rows = staging.read_table(path).to_pylist()
    return Usage({(row["what"], row["endpoint"]): row["number"] for row in rows})


def _write(path: str, usage: Usage) -> None:
    rows = [{"what": what, "endpoint": endpoint, "number": number} for (what, endpoint), number in usage.items()]
    staging.write_table(path, pa.Table.from_pylist(rows))
