"""What systems score query by query: means, gains with intervals, oracles, regret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pgembed.bootstrap import Comparison, Interval, compare, holm, paired_bootstrap
from pgembed.errors import InputError
from pgembed.measuring import PRIMARY, check_metric

ByDomain = Mapping[str, NDArray[np.float64]]
"""Scores of each domain's queries, in one order for all systems."""

Shares = Mapping[str, Mapping[str, float]]
"""By domain, the share of its queries that each arm has."""

_VERSION = re.compile(r"(.+)@\d+")


@dataclass(frozen=True, slots=True)
class SystemScores:
    """What one way to search scores, for each domain's queries."""

    name: str
    by_domain: ByDomain
    """nDCG@10."""
    others: Mapping[str, ByDomain] = field(default_factory=dict)
    """The other metrics: ``recall@100``, ``mrr@10``, ``success@1``."""
    arms: Shares = field(default_factory=dict)
    """By domain, the share of its queries whose heaviest arm this is."""

    @property
    def macro(self) -> float:
        """Mean over domains of the mean over queries, of nDCG@10."""
        return self.macro_of(PRIMARY)

    def scores(self, metric: str = PRIMARY) -> ByDomain:
        """A metric of each query, by domain.

        Raises:
            InputError: the metric is unknown, or was not measured.
        """
        check_metric(metric)
        if metric != PRIMARY and metric not in self.others:
            raise InputError(f"{metric} of {self.name} was not measured")
        return self.by_domain if metric == PRIMARY else self.others[metric]

    def macro_of(self, metric: str) -> float:
        """Mean over domains of the mean over queries."""
        return float(np.mean([scores.mean() for scores in self.scores(metric).values()]))

    def micro_of(self, metric: str) -> float:
        """Mean over all queries."""
        return float(_all(self.scores(metric)).mean())

    def gain_over(self, other: SystemScores, metric: str = PRIMARY) -> Interval:
        """Macro gain over another system with a 95 % paired bootstrap interval."""
        return self.compared_with(other, metric).interval

    def compared_with(self, other: SystemScores, metric: str = PRIMARY) -> Comparison:
        """The same with a two-sided p."""
        theirs, ours = _paired(other, self, metric)
        sizes = [len(scores) for scores in ours.values()]
        strata = np.repeat(np.arange(len(sizes)), sizes)
        return compare(_all(theirs), _all(ours), strata=strata)

    def gains_by_domain(self, other: SystemScores, metric: str = PRIMARY) -> dict[str, Interval]:
        """The gain on each domain by itself."""
        theirs, ours = _paired(other, self, metric)
        return {domain: paired_bootstrap(theirs[domain], ours[domain]) for domain in ours}


@dataclass(frozen=True, slots=True)
class Gain:
    """What a system gains over the first of its table."""

    interval: Interval
    p: float
    """Two-sided, of this comparison alone."""
    p_holm: float
    """Adjusted for all comparisons of the table."""

    @property
    def significant(self) -> bool:
        """Whether the difference holds among so many comparisons, at 5 %."""
        return self.p_holm < 0.05


def gains_over_first(systems: Sequence[SystemScores], metric: str = PRIMARY) -> dict[str, Gain]:
    """Compare every system with the first one, with p values after Holm's correction."""
    first, *rest = systems
    compared = {each.name: each.compared_with(first, metric) for each in rest}
    adjusted = holm([each.p for each in compared.values()])
    return {
        name: Gain(each.interval, each.p, p_holm)
        for (name, each), p_holm in zip(compared.items(), adjusted, strict=True)
    }


def dataset_oracle(
    dev: Sequence[SystemScores],
    systems: Sequence[SystemScores],
    metric: str = PRIMARY,
    *,
    name: str = "dataset oracle",
) -> SystemScores:
    """Who knows each query's domain and takes the arm that was best for it on dev.

    Args:
        dev: scores of the arms on dev queries; of equal arms the first counts.
        systems: the same arms, in the same order, on the queries that are reported.
        metric: what the choice is made by.
        name: what the oracle is called.

    Returns:
        Its scores on the queries of ``systems``; a domain without dev queries has the first arm.
    """
    chosen = {}
    for domain in systems[0].by_domain:
        judged = domain in dev[0].by_domain
        means = [each.scores(metric)[domain].mean() for each in dev] if judged else [0.0]
        chosen[domain] = np.full(len(systems[0].by_domain[domain]), int(np.argmax(means)))
    return _picked(name, systems, chosen)


def instance_oracle(
    systems: Sequence[SystemScores],
    names: Sequence[str] | None = None,
    metric: str = PRIMARY,
    *,
    name: str = "instance oracle",
) -> SystemScores:
    """Who knows which arm answers each single query best.

    No router can know that: the best of several arms is in part the luckiest. The same oracle
    over versions of one arm that differ by their seed alone shows how much of it is luck.

    Args:
        systems: scores on the same queries.
        names: which of them take part; None for all.
        metric: what the choice is made by; of equal arms the first counts.
        name: what the oracle is called.

    Raises:
        InputError: a name is not that of a system.
    """
    by_name = {each.name: each for each in systems}
    if missing := [each for each in names or () if each not in by_name]:
        raise InputError(f"{missing[0]!r} is none of {', '.join(by_name)}")
    taking_part = [by_name[each] for each in (by_name if names is None else names)]
    chosen = {
        domain: np.argmax([each.scores(metric)[domain] for each in taking_part], axis=0)
        for domain in taking_part[0].by_domain
    }
    return _picked(name, taking_part, chosen)


def seed_families(names: Sequence[str]) -> dict[str, list[str]]:
    """Experts called ``NAME@1``, ``NAME@2``, ... by NAME, where there are two of them or more."""
    families: dict[str, list[str]] = {}
    for name in names:
        if matched := _VERSION.fullmatch(name):
            families.setdefault(matched.group(1), []).append(name)
    return {name: versions for name, versions in families.items() if len(versions) > 1}


def recovery(gain: float, room: float) -> float | None:
    """Share of an oracle's gain that a system has; None where the oracle gains nothing."""
    return gain / room if room > 1e-12 else None


def _picked(
    name: str, systems: Sequence[SystemScores], chosen: Mapping[str, NDArray[np.intp]]
) -> SystemScores:
    """A system made of others: for each query the scores of the chosen one."""
    metrics = systems[0].others.keys()
    arms = {
        domain: {
            system.name: float(np.mean(numbers == number))
            for number, system in enumerate(systems)
            if (numbers == number).any()
        }
        for domain, numbers in chosen.items()
    }
    return SystemScores(
        name,
        _taken([each.by_domain for each in systems], chosen),
        {metric: _taken([each.others[metric] for each in systems], chosen) for metric in metrics},
        arms,
    )


def _taken(
    scores: Sequence[ByDomain], chosen: Mapping[str, NDArray[np.intp]]
) -> dict[str, NDArray[np.float64]]:
    return {
        domain: np.stack([each[domain] for each in scores])[numbers, np.arange(len(numbers))]
        for domain, numbers in chosen.items()
    }


def _paired(first: SystemScores, second: SystemScores, metric: str) -> tuple[ByDomain, ByDomain]:
    before, after = first.scores(metric), second.scores(metric)
    if list(before) != list(after):
        raise InputError(f"{second.name} and {first.name} were measured on different domains")
    return before, after


def _all(scores: ByDomain) -> NDArray[np.float64]:
    return np.concatenate(list(scores.values()))
