"""Costs of architectures, and limits on them.

Costs and limits are mappings from the name of a measure to a number, the smaller the cheaper; a network is within
limits if no cost is above its limit. `params` and `macs` follow from the architecture alone
(`distill.models.cost.formula`); `latency_ms` and `image_ms` are measured on the device with an untrained network, since
time does not depend on weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from distill.config import ContractConfig, LimitsConfig
from distill.models import TinyViT, TinyViTConfig
from distill.models.cost.formula import cost_of
from distill.runtime.measure import images_per_second
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime

Costs = Mapping[str, float]
MEASURED = ("latency_ms", "image_ms")
_UNITS = {"params": (1e6, "M parameters"), "macs": (1e6, "M multiply-accumulates"), "latency_ms": (1, "ms per image"),
          "image_ms": (1, "ms per image in batches")}  # fmt: skip


def final_limits_of(limits: LimitsConfig) -> dict[str, float]:
    """The limits that are set, as upper bounds of costs."""
    values = {"params": limits.params, "macs": limits.macs, "latency_ms": limits.latency_ms}
    values["image_ms"] = 1000 / limits.images_per_s if limits.images_per_s else None
    return {name: value for name, value in values.items() if value is not None}


def within(costs: Costs, limits: Costs) -> bool:
    """Whether no cost is above its limit. Only measures that are in both are compared."""
    return all(costs[name] <= limit for name, limit in limits.items() if name in costs)


def round_limits(costs: Costs, final_limits: Costs, *, shrink: float) -> dict[str, float]:
    """The limits of the next round: each cost above its final limit falls by the same factor in every round that is
    left, the fastest to `shrink` of its value, so that all arrive together; in the last round the final limits."""
    limits, rounds = dict(final_limits), rounds_left(costs, final_limits, shrink=shrink)
    if rounds > 1:
        limits |= {name: costs[name] * ratio ** (-1 / rounds) for name, ratio in _excess(costs, final_limits).items()}
    return limits


def rounds_left(costs: Costs, final_limits: Costs, *, shrink: float) -> int:
    """The number of rounds until costs that fall to `shrink` at most per round are within the final limits; at least
    1."""
    ratios = _excess(costs, final_limits).values()
    return max((math.ceil(math.log(ratio) / -math.log(shrink) - 1e-9) for ratio in ratios), default=1)


def _excess(costs: Costs, final_limits: Costs) -> dict[str, float]:
    """Cost divided by limit, of each cost that is above its limit."""
    return {name: costs[name] / limit for name, limit in final_limits.items() if costs[name] > limit}


def format_costs(costs: Costs) -> str:
    """Costs in a line."""
    return ", ".join(f"{costs[name] / unit:.4g} {text}" for name, (unit, text) in _UNITS.items() if name in costs)


def analytic_costs(config: TinyViTConfig) -> dict[str, float]:
    """The costs that follow from the architecture alone: `params` and `macs`."""
    cost = cost_of(config)
    return {"params": cost.params, "macs": cost.macs}


@dataclass(frozen=True, slots=True)
class CostModel:
    """The costs of architectures; each architecture is measured once."""

    measured: tuple[str, ...]
    """Costs to measure, of `MEASURED`."""
    measure: Callable[[TinyViTConfig, str], float] | None = None
    """(architecture, name of the cost) -> cost; None where nothing is measured."""
    _costs: dict[TinyViTConfig, dict[str, float]] = field(default_factory=dict)

    def of(self, config: TinyViTConfig) -> dict[str, float]:
        """All costs of an architecture."""
        if config not in self._costs:
            assert self.measure or not self.measured
            measured = {name: self.measure(config, name) for name in self.measured} if self.measure else {}
            self._costs[config] = analytic_costs(config) | measured
        return self._costs[config]

    def add(self, config: TinyViTConfig, costs: Costs) -> None:
        """Stores costs that were measured before, by this or another process."""
        self._costs[config] = dict(costs)

    def fits(self, config: TinyViTConfig, limits: Costs) -> bool:
        """Whether an architecture is within limits. It is measured only where its analytic costs are."""
        return within(analytic_costs(config), limits) and within(self.of(config), limits)


def make_cost_model(config: ContractConfig, runtime: Runtime) -> CostModel:
    """A cost model that measures, on this process's device, the costs that have limits."""
    measured = tuple(name for name in final_limits_of(config.limits) if name in MEASURED)
    normalise = Normalise(
        config.student.mean, config.student.std, device=runtime.device, channels_last=config.compute.channels_last
    )
    batch_sizes = {"latency_ms": 1, "image_ms": config.search.measure_batch}

    def measure(architecture: TinyViTConfig, name: str) -> float:
        net = TinyViT(architecture)
        runtime.place(net, config.compute)
        per_second = images_per_second(
            net, size=architecture.image_size, batch_size=batch_sizes[name], batches=config.search.measure_batches,
            normalise=normalise, runtime=runtime,
        )  # fmt: skip
        return 1000 / per_second

    return CostModel(measured, measure)
