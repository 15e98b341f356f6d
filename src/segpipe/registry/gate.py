"""The gate: a challenger becomes the champion if it is better beyond chance on the same images and breaks no limit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from segpipe.config.register import Register
from segpipe.errors import MAX_PROBLEMS_SHOWN, ConfigError, Problem
from segpipe.metrics import iou, mean_iou
from segpipe.metrics.parts.bootstrap import FEW_UNITS, Comparison, Estimate, bundle, compare
from segpipe.metrics.parts.image_counts import ImageCounts
from segpipe.metrics.parts.slices import Slice


@dataclass(frozen=True)
class Candidate:
    """The numbers of one model that the gate compares.

    Attributes:
        version: number in the registry.
        confusions: confusion matrices of the validation images.
        size_mb: of its weights, megabytes; NaN where it was not recorded.
        latency_ms: of one image, by the budget's backend; None where it was not measured.
    """

    version: str
    confusions: ImageCounts
    size_mb: float
    latency_ms: float | None = None


@dataclass(frozen=True)
class Delta:
    """How a score differs from the champion's; None for a value that is not known.

    Attributes:
        value: challenger minus champion.
        low: of the 95% interval.
        high: as `low`.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @staticmethod
    def of(estimate: Estimate) -> "Delta":
        """Gives an estimate with None for NaN."""
        return Delta(_finite(estimate.value), _finite(estimate.low), _finite(estimate.high))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A challenger's scores against the champion's, on the same images.

    Attributes:
        mean_iou: of the challenger.
        champion_mean_iou: of the champion.
        delta: of the mIoU.
        probability: that the challenger is better, 0..1; None without an interval.
        kind: 'group' or 'block': the units that count as independent.
        num_units: how many units.
        class_deltas: of the IoU of each class that has labelled pixels.
        champion_size_mb: of its weights, megabytes; None where it was not recorded.
        champion_latency_ms: of one image; None where it was not measured.
    """

    mean_iou: float
    champion_mean_iou: float
    delta: Delta
    probability: float | None
    kind: str
    num_units: int
    class_deltas: Mapping[str, Delta]
    champion_size_mb: float | None
    champion_latency_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The numbers behind a decision.

    Attributes:
        num_images: on which the challenger was measured.
        size_mb: of its weights, megabytes.
        latency_ms: of one image; None where it was not measured.
        figures: None where there is no champion.
    """

    num_images: int
    size_mb: float
    latency_ms: float | None
    figures: Figures | None = None

    def to_json(self) -> dict[str, object]:
        """The numbers as plain values, the figures next to the others."""
        document = asdict(self)
        figures = document.pop("figures") or {}
        return {**document, **figures}


@dataclass(frozen=True)
class Decision:
    """The gate's decision.

    Attributes:
        promoted: whether the challenger becomes the champion.
        reasons: why, in whole sentences; all of them, not only the first.
        evidence: the numbers; None where challenger and champion could not be compared.
    """

    promoted: bool
    reasons: tuple[str, ...]
    evidence: Evidence | None = None


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    class_names: Sequence[str],
    groups: Sequence[str],
    policy: Register,
    problems: Sequence[Problem] = (),
    slices: Sequence[Slice] = (),
) -> Decision:
    """Promotes a challenger that keeps the limits and, where there is a champion, is better than it.

    Args:
        challenger: measured on the validation images.
        champion: measured on the same images in the same order; None where there is none.
        class_names: of the confusion matrices.
        groups: the group (sequence) of each image.
        policy: the limits, and what counts as better.
        problems: the warnings of the data set's report.
        slices: of the images.

    Raises:
        ConfigError: the policy names a class that does not exist.
    """
    if unknown := sorted(set(policy.min_class_iou) - set(class_names)):
        raise ConfigError(
            f"register.min_class_iou: there is no class {', '.join(unknown)}; the classes are {', '.join(class_names)}"
        )
    obstacles = _floors(challenger, class_names, policy) + _costs(challenger, champion, policy)
    evidence = Evidence(
        num_images=challenger.confusions.num_images, size_mb=challenger.size_mb, latency_ms=challenger.latency_ms
    )
    if champion is None:
        if obstacles:
            return Decision(False, ("There is no champion, and this model cannot be one.", *obstacles), evidence)
        return Decision(True, ("There was no champion.",), evidence)
    comparison = compare(challenger.confusions, champion.confusions, bundle(groups, policy.num_block_images))
    evidence = replace(evidence, figures=_figures(comparison, champion, class_names))
    is_better, verdict = _judge(comparison, challenger, champion, policy)
    obstacles += _class_drops(comparison, challenger, class_names, policy)
    obstacles += _slice_drops(challenger, champion, slices, policy)
    obstacles += _unresolved(problems, policy)
    return Decision(is_better and not obstacles, (*verdict, *obstacles), evidence)


def _judge(
    comparison: Comparison, challenger: Candidate, champion: Candidate, policy: Register
) -> tuple[bool, tuple[str, ...]]:
    delta, units = comparison.delta, _count_units(comparison)
    figures = (
        f"validation mIoU {comparison.challenger.value:.4f} against {comparison.champion.value:.4f} of version "
        f"{champion.version} ({delta.value:+.4f}"
    )
    if np.isfinite(delta.low):
        figures += (
            f", 95% interval {delta.low:+.4f} to {delta.high:+.4f}, better with probability "
            f"{comparison.probability:.3f}, by {units})"
        )
    else:
        figures += f"; {units} gives no interval)"
    if policy.better == "interval":
        is_better = bool(delta.low > policy.min_delta)  # False for NaN
        how, asked = " beyond chance", f"the whole interval must be above {policy.min_delta:g}"
        fix = ", or write `better: point` under `register` in params.yaml, which ignores the interval"
    else:
        is_better = delta.value > policy.min_delta
        how, asked, fix = "", f"the difference must be above {policy.min_delta:g}", ""
        if delta.value == 0 == policy.min_delta:  # so that the order of the decisions does not matter
            is_better = int(challenger.version) < int(champion.version)
            asked = "of two equal models the one that was registered first is champion"
    verdict = [f"{'Better' if is_better else 'Not better'}{how}: {figures}; {asked}."]
    if comparison.num_units < FEW_UNITS:
        verdict.append(
            f"That is little evidence: {units} of validation images. Label more sequences for validation{fix}."
        )
    if comparison.kind == "block" and policy.better == "interval":
        verdict.append(
            "Blocks of frames count as independent. That is true only if a block is much longer than the time in which "
            "frames look alike (register.block_length)."
        )
    return is_better, tuple(verdict)


def _count_units(comparison: Comparison) -> str:
    return f"{comparison.num_units} {comparison.kind}{'' if comparison.num_units == 1 else 's'}"


def _figures(comparison: Comparison, champion: Candidate, class_names: Sequence[str]) -> Figures:
    return Figures(
        mean_iou=comparison.challenger.value,
        champion_mean_iou=comparison.champion.value,
        delta=Delta.of(comparison.delta),
        probability=_finite(comparison.probability),
        kind=comparison.kind,
        num_units=comparison.num_units,
        class_deltas={
            name: Delta.of(estimate)
            for name, estimate in zip(class_names, comparison.class_deltas, strict=True)
            if np.isfinite(estimate.value)
        },
        champion_size_mb=_finite(champion.size_mb),
        champion_latency_ms=champion.latency_ms,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _floors(challenger: Candidate, class_names: Sequence[str], policy: Register) -> list[str]:
    mean = mean_iou.compute(challenger.confusions)
    low = []
    if not mean >= policy.min_mean_iou:
        low.append(f"mIoU {mean:.4f} is below {policy.min_mean_iou:g} (register.min_mean_iou).")
    by_class = dict(zip(class_names, iou.compute(challenger.confusions).tolist(), strict=True))
    for name, floor in policy.min_class_iou.items():
        if np.isnan(by_class[name]):
            low.append(f"Class {name} has no labelled pixel in validation, so its floor cannot be checked.")
        elif by_class[name] < floor:
            low.append(f"Class {name}: IoU {by_class[name]:.4f} is below {floor:g} (register.min_class_iou).")
    return low


def _class_drops(
    comparison: Comparison, challenger: Candidate, class_names: Sequence[str], policy: Register
) -> list[str]:
    now = iou.compute(challenger.confusions).tolist()
    return [
        f"Class {name} falls by {-delta.value:.4f} to {value:.4f}: more than {policy.max_class_drop:g} "
        "(register.max_class_drop)."
        for name, delta, value in zip(class_names, comparison.class_deltas, now, strict=True)
        if -delta.value > policy.max_class_drop
    ]


def _slice_drops(challenger: Candidate, champion: Candidate, slices: Sequence[Slice], policy: Register) -> list[str]:
    if policy.max_slice_drop is None:
        return []
    falls: list[tuple[float, str]] = []
    for one in slices:
        now, before = (mean_iou.compute(model.confusions.take(one.images)) for model in (challenger, champion))
        if before - now > policy.max_slice_drop:  # False for NaN
            falls.append(
                (
                    before - now,
                    f"Slice {one} ({len(one.images)} images) falls by {before - now:.4f}, from mIoU {before:.4f} to "
                    f"{now:.4f}: more than {policy.max_slice_drop:g} (register.max_slice_drop).",
                )
            )
    worst_first = [text for _, text in sorted(falls, reverse=True)]
    if len(worst_first) > MAX_PROBLEMS_SHOWN:
        num_more = len(worst_first) - MAX_PROBLEMS_SHOWN
        worst_first[MAX_PROBLEMS_SHOWN:] = [f"{num_more} more slices fall by more than {policy.max_slice_drop:g}."]
    return worst_first


def _costs(challenger: Candidate, champion: Candidate | None, policy: Register) -> list[str]:
    budget, high = policy.budget, []
    if budget.size_mb is not None and challenger.size_mb > budget.size_mb:
        high.append(f"{challenger.size_mb:.1f} MB of weights exceed {budget.size_mb:g} (register.budget.size_mb).")
    latency_ms, what = challenger.latency_ms, "an image"
    if budget.timed_export is not None:
        what += f" by the export to {budget.timed_export}"
    if latency_ms is not None and budget.latency_ms is not None and latency_ms > budget.latency_ms:
        high.append(f"{latency_ms:.1f} ms {what} exceed {budget.latency_ms:g} (register.budget.latency_ms).")
    before_ms = champion.latency_ms if champion else None
    if budget.slowdown is not None and latency_ms is not None and before_ms is not None:
        ratio = latency_ms / before_ms
        if ratio > budget.slowdown:
            high.append(
                f"{latency_ms:.1f} ms {what} are {ratio:.2f} times the champion's {before_ms:.1f} ms, more than "
                f"{budget.slowdown:g} (register.budget.slowdown)."
            )
    return high


def _unresolved(problems: Sequence[Problem], policy: Register) -> list[str]:
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.kind not in policy.accepted_problems:
            kinds.setdefault(problem.kind, []).append(problem)
    return [
        f"The data set's report warns of {kind} ({len(found)} times; the first: {found[0].where}). Fix it, or add "
        f"{kind} to register.accepted_problems."
        for kind, found in kinds.items()
    ]
