"""Every figure of an evaluation as plain values, for json and for pages."""

from __future__ import annotations

from typing import Any

from pgembed.bootstrap import Interval
from pgembed.evaluation import Evaluation
from pgembed.measuring import METRICS, PRIMARY
from pgembed.system_scores import Gain, SystemScores, gains_over_first, recovery, seed_families

NAMES = {"hard": "routed (hard)", "soft": "routed (soft)", "base": "base"}
"""What the modes are called; an expert's name is its mode."""

LABELS = dict(zip(METRICS, ("nDCG@10", "recall@100", "MRR@10", "success@1"), strict=True))
"""How metrics are written."""


def figures(evaluation: Evaluation, metric: str = PRIMARY) -> dict[str, Any]:
    """All figures of an evaluation as dicts, lists, texts and numbers.

    ``macro``, ``domains``, the gains and what compares with oracles are of ``metric``; ``metrics``
    has them all.
    """
    base = evaluation.systems[0]
    gains = gains_over_first(evaluation.systems, metric)
    return {
        "split": evaluation.split,
        "metric": metric,
        "measured_by": evaluation.measured_by,
        "systems": [
            {
                **_system(each, metric),
                "gain_over_base": _gain(gains.get(each.name)),
                "gains_by_domain": None
                if each is base
                else {d: _interval(i) for d, i in each.gains_by_domain(base, metric).items()},
                **routing_figures(evaluation, each, metric),
            }
            for each in evaluation.systems
        ],
        "oracles": _oracles(evaluation, metric),
    }


def routing_figures(
    evaluation: Evaluation, system: SystemScores, metric: str = PRIMARY
) -> dict[str, Any]:
    """How far a system is from the oracles; None where an oracle is not there.

    ``regret`` is the dataset oracle's macro less the system's. ``dataset_oracle_recovery`` is the
    system's gain over base as a share of the oracle's; ``instance_oracle_recovery`` is its share
    of what the instance oracle has above the seed oracle of most versions.
    """
    known, best = evaluation.dataset_oracle, evaluation.instance_oracle
    base = evaluation.systems[0].macro_of(metric)
    gain = system.macro_of(metric) - base
    control = _control(evaluation)
    return {
        "regret": known and known.macro_of(metric) - system.macro_of(metric),
        "regret_by_domain": known
        and {
            domain: float(scores.mean() - system.scores(metric)[domain].mean())
            for domain, scores in known.scores(metric).items()
        },
        "dataset_oracle_recovery": known and recovery(gain, known.macro_of(metric) - base),
        "instance_oracle_recovery": best
        and control
        and recovery(gain, best.macro_of(metric) - control.macro_of(metric)),
    }


def remarks(evaluation: Evaluation, metric: str = PRIMARY) -> list[str]:
    """Sentences about what the oracles say, and what they do not."""
    lines = []
    for system in evaluation.systems:
        found = routing_figures(evaluation, system, metric)
        if system.name in ("hard", "soft") and found["regret"] is not None:
            share = found["dataset_oracle_recovery"]
            part = "" if share is None else f" ({share:.0%} of its gain over base)"
            distance = 0.0 - found["regret"]
            name = NAMES[system.name]
            lines.append(f"{name} is {distance:+.4f} from the dataset oracle{part}.")
    if evaluation.without_dev:
        domains = ", ".join(evaluation.without_dev)
        lines.append(f"The dataset oracle takes base for {domains}: no dev queries to choose by.")
    if evaluation.instance_oracle is not None and not evaluation.seed_oracles:
        lines.append(
            "The instance oracle has no control: it is in part luck. Train one expert with several"
            " seeds, as NAME@1, NAME@2, ..., and the same oracle over these is shown."
        )
    return lines


def _control(evaluation: Evaluation) -> SystemScores | None:
    families = seed_families([each.name for each in evaluation.systems])
    most = max(evaluation.seed_oracles, key=lambda name: len(families[name]), default=None)
    return None if most is None else evaluation.seed_oracles[most]


def _oracles(evaluation: Evaluation, metric: str) -> dict[str, Any]:
    known, best = evaluation.dataset_oracle, evaluation.instance_oracle
    return {
        "dataset": known and _system(known, metric),
        "without_dev": list(evaluation.without_dev),
        "instance": best and _system(best, metric),
        "seeds": {name: _system(each, metric) for name, each in evaluation.seed_oracles.items()},
    }


def _system(system: SystemScores, metric: str) -> dict[str, Any]:
    return {
        "mode": system.name,
        "macro": system.macro_of(metric),
        "micro": system.micro_of(metric),
        "domains": _means(system, metric),
        "queries": {domain: len(scores) for domain, scores in system.by_domain.items()},
        "metrics": {
            each: {
                "macro": system.macro_of(each),
                "micro": system.micro_of(each),
                "domains": _means(system, each),
            }
            for each in METRICS
        },
        "arms": {domain: dict(shares) for domain, shares in system.arms.items()},
    }


def _means(system: SystemScores, metric: str) -> dict[str, float]:
    return {domain: float(scores.mean()) for domain, scores in system.scores(metric).items()}


def _gain(gain: Gain | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {
        **_interval(gain.interval),
        "p": gain.p,
        "p_holm": gain.p_holm,
        "significant": gain.significant,
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
