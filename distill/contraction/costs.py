"""What candidates cost, and the limits that costs are held to.

Costs and limits are mappings from the name of a measure to a number, smaller being cheaper; a network is within limits
if no cost is above its limit. `params` and `macs` come from the architecture alone (`distill.models.cost.formula`);
`latency_ms` and `image_ms` are measured on the device, of a network without training, since time does not depend on
weights.
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
_UNITS = {"params": (1e6, "M parameters"), "macs": (1e6, "M multiply-accumulates"), "latency_ms": (1, "ms a picture"),
          "image_ms": (1, "ms a picture in batches")}  # fmt: skip


def targets_of(limits: LimitsConfig) -> dict[str, float]:
    """The limits that are set, as bounds from above."""
    values = {"params": limits.params, "macs": limits.macs, "latency_ms": limits.latency_ms}
    values["image_ms"] = 1000 / limits.images_per_s if limits.images_per_s else None
    return {name: value for name, value in values.items() if value is not None}


def within(costs: Costs, limits: Costs) -> bool:
    """Whether no cost is above its limit; costs without a limit, and limits of what is not known, do not count."""
    return all(costs[name] <= limit for name, limit in limits.items() if name in costs)


def round_limits(costs: Costs, targets: Costs, *, shrink: float) -> dict[str, float]:
    """The limits of the next round: every cost that is above its target falls by the same number of equal ratios, the
    fastest to `shrink` of what it is, so that all arrive together; in the last round the targets themselves."""
    limits, rounds = dict(targets), rounds_left(costs, targets, shrink=shrink)
    if rounds > 1:
        limits |= {name: costs[name] * ratio ** (-1 / rounds) for name, ratio in _above(costs, targets).items()}
    return limits


def rounds_left(costs: Costs, targets: Costs, *, shrink: float) -> int:
    """In how many rounds costs that each fall to `shrink` at most arrive at their targets; 1 where they have."""
    ratios = _above(costs, targets).values()
    return max((math.ceil(math.log(ratio) / -math.log(shrink) - 1e-9) for ratio in ratios), default=1)


def _above(costs: Costs, targets: Costs) -> dict[str, float]:
    """How many times the target each cost is that is above it."""
    return {name: costs[name] / target for name, target in targets.items() if costs[name] > target}


def shown(costs: Costs) -> str:
    """Costs in a line."""
    return ", ".join(f"{costs[name] / unit:.4g} {text}" for name, (unit, text) in _UNITS.items() if name in costs)


def price(config: TinyViTConfig) -> dict[str, float]:
    """What follows from the architecture alone."""
    cost = cost_of(config)
    return {"params": cost.params, "macs": cost.macs}


@dataclass(frozen=True, slots=True)
class Pricing:
    """The costs of architectures; each is measured once."""

    names: tuple[str, ...]
    """Measured costs that are wanted, of `MEASURED`."""
    measure: Callable[[TinyViTConfig, str], float] | None = None
    _known: dict[TinyViTConfig, dict[str, float]] = field(default_factory=dict)

    def of(self, config: TinyViTConfig) -> dict[str, float]:
        """All costs of an architecture."""
        if config not in self._known:
            assert self.measure or not self.names
            measured = {name: self.measure(config, name) for name in self.names} if self.measure else {}
            self._known[config] = price(config) | measured
        return self._known[config]

    def know(self, config: TinyViTConfig, costs: Costs) -> None:
        """Takes over what was measured before."""
        self._known[config] = dict(costs)

    def fits(self, config: TinyViTConfig, limits: Costs) -> bool:
        """Whether an architecture is within limits; what can be told without measuring comes first."""
        return within(price(config), limits) and within(self.of(config), limits)


def make_pricing(config: ContractConfig, runtime: Runtime) -> Pricing:
    """Pricing that measures what the limits ask for on this process's device."""
    names = tuple(name for name in targets_of(config.limits) if name in MEASURED)
    normalise = Normalise(
        config.student.mean, config.student.std, device=runtime.device, channels_last=config.compute.channels_last
    )
    sizes = {"latency_ms": 1, "image_ms": config.search.measure_batch}

    def measure(architecture: TinyViTConfig, name: str) -> float:
        net = TinyViT(architecture)
        runtime.place(net, config.compute)
        rate = images_per_second(
            net, size=architecture.image_size, batch_size=sizes[name], batches=config.search.measure_batches,
            normalise=normalise, runtime=runtime,
        )  # fmt: skip
        return 1000 / rate

    return Pricing(names, measure)
