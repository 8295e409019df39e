"""What a declared feature is made of: a function of a column, over a window of time.

A window is [end - duration, end) in the time of the rows: it has its start and not its end. Of a label at t the end is
t less the delay (continuous, rolling), or the last multiple of the slide, from midnight UTC of 1970-01-01 on, that is
not after t (tumbling, sliding): the last window that was complete.

Source of names, arguments and bounds: Databricks' public reference of `databricks.feature_engineering.entities`
(`TimeWindow`: "includes the start endpoint, but not the end").
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

_MICROSECOND = datetime.timedelta(microseconds=1)
_NOTHING = datetime.timedelta(0)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A window as the kernels see it, in microseconds."""

    duration_us: int
    slide_us: int | None
    """None for a window that ends at each label's own time."""
    delay_us: int = 0


@dataclass(frozen=True, kw_only=True)
class Window:
    """What all windows have. Make one of the kinds below."""

    window_duration: datetime.timedelta
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        _positive("window_duration", self.window_duration)

    @property
    def span(self) -> Span:
        """Itself for the kernels."""
        return Span(duration_us=self.window_duration // _MICROSECOND, slide_us=None)

    @property
    def label(self) -> str:
        """How a feature's name tells of it."""
        return f"{self.kind}_{shown(self.window_duration)}"

    def to_json(self) -> dict[str, Any]:
        """Itself as the Databricks SDK's `TimeWindow` has it."""
        return {self.kind: {"window_duration": _seconds(self.window_duration)}}


@dataclass(frozen=True, kw_only=True)
class RollingWindow(Window):
    """The time up to each label, less a delay."""

    delay: datetime.timedelta = _NOTHING
    kind: ClassVar[str] = "rolling"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delay < _NOTHING:
            raise ValueError(f"delay must not be negative, and is {self.delay}.")

    @property
    def span(self) -> Span:
        """Itself for the kernels."""
        return Span(
            duration_us=self.window_duration // _MICROSECOND, slide_us=None, delay_us=self.delay // _MICROSECOND
        )

    @property
    def label(self) -> str:
        """How a feature's name tells of it."""
        return super().label + (f"_delay_{shown(self.delay)}" if self.delay else "")

    def to_json(self) -> dict[str, Any]:
        """Itself as the Databricks SDK's `TimeWindow` has it."""
        return {self.kind: {"window_duration": _seconds(self.window_duration), "delay": _seconds(self.delay)}}


@dataclass(frozen=True, kw_only=True)
class ContinuousWindow(Window):
    """The same under its older name; `offset` is its delay, as a span of time that is not positive."""

    offset: datetime.timedelta = _NOTHING
    kind: ClassVar[str] = "continuous"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "offset", self.offset or _NOTHING)
        if self.offset > _NOTHING:
            raise ValueError(f"offset must not be positive, and is {self.offset}.")

    @property
    def span(self) -> Span:
        """Itself for the kernels."""
        return RollingWindow(window_duration=self.window_duration, delay=-self.offset).span

    @property
    def label(self) -> str:
        """How a feature's name tells of it."""
        return super().label + (f"_offset_{shown(-self.offset)}" if self.offset else "")

    def to_json(self) -> dict[str, Any]:
        """Itself as the Databricks SDK's `TimeWindow` has it."""
        return {self.kind: {"window_duration": _seconds(self.window_duration), "offset": _seconds(self.offset)}}


@dataclass(frozen=True, kw_only=True)
class TumblingWindow(Window):
    """Windows that follow each other."""

    kind: ClassVar[str] = "tumbling"

    @property
    def span(self) -> Span:
        """Itself for the kernels."""
        duration_us = self.window_duration // _MICROSECOND
        return Span(duration_us=duration_us, slide_us=duration_us)


@dataclass(frozen=True, kw_only=True)
class SlidingWindow(Window):
    """Windows that overlap: one begins with each `slide_duration`."""

    slide_duration: datetime.timedelta
    kind: ClassVar[str] = "sliding"

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("slide_duration", self.slide_duration)
        if self.slide_duration >= self.window_duration:
            raise ValueError(
                f"slide_duration {self.slide_duration} must be less than window_duration {self.window_duration}; "
                "windows that do not overlap are a TumblingWindow."
            )

    @property
    def span(self) -> Span:
        """Itself for the kernels."""
        return Span(duration_us=self.window_duration // _MICROSECOND, slide_us=self.slide_duration // _MICROSECOND)

    @property
    def label(self) -> str:
        """How a feature's name tells of it."""
        return f"{super().label}_{shown(self.slide_duration)}"

    def to_json(self) -> dict[str, Any]:
        """Itself as the Databricks SDK's `TimeWindow` has it."""
        durations = {"window_duration": self.window_duration, "slide_duration": self.slide_duration}
        return {self.kind: {name: _seconds(value) for name, value in durations.items()}}


@dataclass(frozen=True)
class Function:
    """What all functions have: the column that they are of. NULL is left out of all but `First` and `Last`."""

    input: str | None = None
    kind: ClassVar[str]
    numeric: ClassVar[bool] = False
    """Whether it is of numbers alone."""

    def to_json(self) -> dict[str, Any]:
        """Itself as the Databricks SDK's `AggregationFunction` has it."""
        return {"count_function" if self.kind == "count" else self.kind: {"input": self.input}}


@dataclass(frozen=True)
class Sum(Function):
    """The sum; of whole numbers a BIGINT, of fractions a DOUBLE."""

    kind: ClassVar[str] = "sum"
    numeric: ClassVar[bool] = True


@dataclass(frozen=True)
class Avg(Function):
    """The mean."""

    kind: ClassVar[str] = "avg"
    numeric: ClassVar[bool] = True


@dataclass(frozen=True)
class Count(Function):
    """How many values there are; 0 for none."""

    kind: ClassVar[str] = "count"


@dataclass(frozen=True)
class Min(Function):
    """The least value; NaN is greater than all."""

    kind: ClassVar[str] = "min"


@dataclass(frozen=True)
class Max(Function):
    """The greatest value; NaN is greater than all."""

    kind: ClassVar[str] = "max"


@dataclass(frozen=True)
class StddevPop(Function):
    """The standard deviation of the population."""

    kind: ClassVar[str] = "stddev_pop"
    numeric: ClassVar[bool] = True


@dataclass(frozen=True)
class StddevSamp(Function):
    """The standard deviation of the sample; NULL for one value."""

    kind: ClassVar[str] = "stddev_samp"
    numeric: ClassVar[bool] = True


@dataclass(frozen=True)
class VarPop(Function):
    """The variance of the population."""

    kind: ClassVar[str] = "var_pop"
    numeric: ClassVar[bool] = True


@dataclass(frozen=True)
class VarSamp(Function):
    """The variance of the sample; NULL for one value."""

    kind: ClassVar[str] = "var_samp"
    numeric: ClassVar[bool] = True


@dataclass(frozen=True)
class First(Function):
    """The value of the earliest row, be it NULL; of several of that time the least."""

    kind: ClassVar[str] = "first"


@dataclass(frozen=True)
class Last(Function):
    """The value of the latest row, be it NULL; of several of that time the greatest."""

    kind: ClassVar[str] = "last"


@dataclass(frozen=True)
class ApproxCountDistinct(Function):
    """How many different values there are; 0 for none. Counted exactly, whatever error `relativeSD` allows."""

    relativeSD: float | None = None
    kind: ClassVar[str] = "approx_count_distinct"

    def to_json(self) -> dict[str, Any]:
        """Itself as the Databricks SDK's `AggregationFunction` has it."""
        return {self.kind: _only_given({"input": self.input, "relative_sd": self.relativeSD})}


@dataclass(frozen=True)
class ApproxPercentile(Function):
    """The least value that `percentile` (0 to 1) of the values do not exceed. Exact, whatever `accuracy` allows."""

    percentile: float = 0.5
    accuracy: int | None = None
    kind: ClassVar[str] = "approx_percentile"
    numeric: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 1:
            raise ValueError(f"percentile must be between 0 and 1, and is {self.percentile}.")

    def to_json(self) -> dict[str, Any]:
        """Itself as the Databricks SDK's `AggregationFunction` has it."""
        given = {"input": self.input, "percentile": self.percentile, "accuracy": self.accuracy}
        return {self.kind: _only_given(given)}


_WINDOWS: Mapping[str, type[Window]] = {
    each.kind: each for each in (ContinuousWindow, RollingWindow, TumblingWindow, SlidingWindow)
}
_FUNCTIONS: Mapping[str, type[Function]] = {
    each.kind: each
    for each in (
        Sum, Avg, Count, Min, Max, StddevPop, StddevSamp, VarPop, VarSamp, First, Last, ApproxCountDistinct,
        ApproxPercentile,
    )
}  # fmt: skip


def window_of(told: Mapping[str, Any]) -> Window:
    """A window from the Databricks SDK's JSON. Raises ValueError for a kind that is not known."""
    for kind, values in told.items():
        if kind in _WINDOWS:
            return _WINDOWS[kind](**{name: _duration(name, value) for name, value in values.items()})
    raise ValueError(f"The window {dict(told)} is none of {', '.join(_WINDOWS)}.")


def function_of(told: Mapping[str, Any]) -> Function:
    """A function from the Databricks SDK's JSON. Raises ValueError for a kind that is not known."""
    for kind, values in told.items():
        made = _FUNCTIONS.get("count" if kind == "count_function" else kind)
        if made is not None:
            named = {"relativeSD" if name == "relative_sd" else name: value for name, value in values.items()}
            unknown = set(named) - set(made.__dataclass_fields__)
            if unknown:
                raise ValueError(f"The function {kind} takes no {', '.join(sorted(unknown))} here.")
            return made(**named)
    raise ValueError(f"The function {dict(told)} is none of {', '.join(_FUNCTIONS)}.")


def shown(duration: datetime.timedelta) -> str:
    """A duration as a name has it: 7d, 90m, 1500ms."""
    for unit, name in ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms")):
        count, rest = divmod(duration // _MICROSECOND, unit)
        if not rest:
            return f"{count}{name}"
    return f"{duration // _MICROSECOND}us"


def _seconds(duration: datetime.timedelta) -> str:
    """A duration as protobuf's JSON has it."""
    whole, rest = divmod(abs(duration) // _MICROSECOND, 1_000_000)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{'-' * (duration < _NOTHING)}{whole}{fraction}s"


def _duration(name: str, text: str) -> datetime.timedelta:
    try:
        return round(float(text.removesuffix("s")) * 1_000_000) * _MICROSECOND
    except ValueError:
        raise ValueError(f"{name} '{text}' is no duration, as '3600s' is.") from None


def _positive(name: str, duration: datetime.timedelta) -> None:
    if duration <= _NOTHING:
        raise ValueError(f"{name} must be positive, and is {duration}.")


def _only_given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
