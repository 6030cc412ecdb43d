"""ViewSpec and EvalSpec: everything that decides how views are drawn, as plain values.

The teacher pass writes the ViewSpec into the store; the student pass takes it from there. So the JSON form is
part of the store's format: an unknown key or a newer version is refused by name and never ignored.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from distill.errors import UsageError
from distill.views.checks import VERSION, as_integer, as_number, as_tuple, check_range, check_version, choice
from distill.views.mix import MixSpec, mix_of
from distill.views.policies import Policy, policy_of
from distill.views.view import Colour

INTERPOLATIONS = ("bilinear", "bicubic")
MAX_ERASE_COUNT = 4

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSpec:
    """How views are drawn. The defaults are the plain random crop and flip."""

    version: int = VERSION
    decode: str = "exact"
    """'exact', or 'dct': JPEGs whose crop is twice the output or more are decoded at 1/2, 1/4 or 1/8."""
    crop: str = "random"
    """'random': random resized crop (scale, ratio); 'full': the whole image."""
    scale: Range = (0.08, 1.0)
    """Area of the random crop as a fraction of the image's, uniform."""
    ratio: Range = (3 / 4, 4 / 3)
    """Width / height of the random crop; its logarithm is uniform."""
    interpolation: str = "bicubic"
    """Of the resize: 'bilinear', 'bicubic', or 'random' for either."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    policy: Policy | None = None
    """None or 'none', 'trivialaugment-wide', 'three-augment', a name such as 'rand-m9-mstd0.5-inc1', or a policy."""
    policy_interpolation: str = "bilinear"
    """Of geometric operations: 'bilinear' (fast), 'bicubic' (Pillow's own), or 'random' for either."""
    color_jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Brightness, contrast, saturation: factor uniform in [max(0, 1 - x), 1 + x], random order."""
    erase: float = 0.0
    """Probability that a view has erased boxes."""
    erase_area: Range = (0.02, 1 / 3)
    """Area of a box as a fraction of the output's (divided by the number of boxes), uniform."""
    erase_ratio: Range = (0.3, 10 / 3)
    """Height / width of a box; its logarithm is uniform."""
    erase_count: tuple[int, int] = (1, 1)
    """Minimum and maximum number of boxes."""
    erase_mode: str = "pixel"
    """'pixel': normal noise around `fill` with `noise_std`; 'const': `fill`."""
    fill: Colour = (124, 116, 104)
    """RGB of pixels taken from outside the image, and mean of erased boxes (ImageNet's mean)."""
    noise_std: Colour = (58, 57, 57)
    """Standard deviation of the noise in erased boxes, in grey levels (ImageNet's)."""
    mix: MixSpec | None = None
    """How views are mixed with one another; None: not mixed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", policy_of(self.policy))
        object.__setattr__(self, "mix", mix_of(self.mix))
        for name in ("scale", "ratio", "color_jitter", "erase_area", "erase_ratio"):
            values = as_tuple(name, getattr(self, name))
            object.__setattr__(self, name, tuple(as_number(name, value) for value in values))
        for name in ("erase_count", "fill", "noise_std"):
            values = as_tuple(name, getattr(self, name))
            object.__setattr__(self, name, tuple(as_integer(name, value) for value in values))
        for name in ("flip", "erase"):
            object.__setattr__(self, name, as_number(name, getattr(self, name)))
        self._check()

    def _check(self) -> None:
        check_version(self.version, of="ViewSpec")
        choice("decode", self.decode, ("exact", "dct"))
        choice("crop", self.crop, ("random", "full"))
        choice("interpolation", self.interpolation, (*INTERPOLATIONS, "random"))
        choice("policy_interpolation", self.policy_interpolation, (*INTERPOLATIONS, "random"))
        choice("erase_mode", self.erase_mode, ("pixel", "const"))
        check_range("scale", self.scale, low=1e-6, high=1.0)
        check_range("ratio", self.ratio, low=1e-3, high=1e3)
        check_range("erase_area", self.erase_area, low=0.0, high=1.0)
        check_range("erase_ratio", self.erase_ratio, low=1e-3, high=1e3)
        check_range("erase_count", self.erase_count, low=1, high=MAX_ERASE_COUNT)
        for name in ("flip", "erase"):
            check_range(name, (getattr(self, name),) * 2, low=0.0, high=1.0)
        if len(self.color_jitter) != 3 or not all(0 <= amount <= 8 for amount in self.color_jitter):
            raise UsageError(f"view spec: color_jitter needs three numbers in 0 .. 8, got {self.color_jitter}")
        for name in ("fill", "noise_std"):
            colour = getattr(self, name)
            if len(colour) != 3 or not all(0 <= level <= 255 for level in colour):
                raise UsageError(f"view spec: {name} needs three integers from 0 to 255, got {colour}")

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers. The key `mix` is absent where views are not mixed."""
        return {key: _plain(value) for key, value in asdict(self).items() if key != "mix" or value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ViewSpec":
        """The spec of `to_json`, or of a YAML file; missing keys take their defaults.

        **Raises:** `UsageError` naming each unknown key; `DistillError` for a newer version.
        """
        return cls(**_checked(values, cls, of="ViewSpec"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSpec:
    """The evaluation view: no randomness."""

    version: int = VERSION
    crop: float = 0.875
    """Side of the central square as a fraction of the image's shorter side."""
    interpolation: str = "bicubic"
    full: bool = False
    """The whole image, resized to a square."""

    def __post_init__(self) -> None:
        check_version(self.version, of="EvalSpec")
        object.__setattr__(self, "crop", as_number("crop", self.crop))
        check_range("crop", (self.crop, self.crop), low=0.01, high=1.0)
        choice("interpolation", self.interpolation, INTERPOLATIONS)
        if not isinstance(self.full, bool):
            raise UsageError(f"view spec: full must be true or false, got {self.full!r}")

    def to_json(self) -> dict[str, Any]:
        """Plain strings and numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "EvalSpec":
        """The spec of `to_json`, or of a YAML file; unknown keys and newer versions are refused."""
        return cls(**_checked(values, cls, of="EvalSpec"))


def _checked(values: Mapping[str, Any], kind: type, *, of: str) -> dict[str, Any]:
    version = values.get("version", VERSION)
    check_version(version, of=of)
    names = [field.name for field in fields(kind)]
    unknown = sorted(str(key) for key in values if key not in names)
    if unknown:
        raise UsageError(f"{of}: unknown keys {', '.join(unknown)}; the keys are {', '.join(names)}")
    return dict(values)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
