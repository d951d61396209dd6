"""An evaluation as one page of html that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pgembed.errors import InputError
from pgembed.evaluation import Evaluation, judged_domains
from pgembed.evaluation_figures import LABELS, NAMES, figures, remarks
from pgembed.evaluation_plots import (
    Plot,
    Points,
    check_plotting,
    gain_plot,
    map_plot,
    matrix_plot,
    share_plot,
)
from pgembed.heads import Pilot
from pgembed.judgments import JudgedCollection
from pgembed.measuring import PRIMARY
from pgembed.resources import PACKAGE
from pgembed.router import Router
from pgembed.system_scores import SystemScores

ROUTED = ("hard", "soft")


def evaluation_page(
    evaluation: Evaluation,
    judged: Sequence[JudgedCollection],
    router: Router,
    *,
    metric: str = PRIMARY,
    title: str | None = None,
) -> str:
    """Tables and plots: each arm on each domain, gains, who answers what, a map of the queries.

    Args:
        evaluation: what was measured.
        judged: the collections it was measured on.
        router: the router it was measured with.
        metric: what tables and plots show.
        title: heading of the page; None names the collections.

    Raises:
        InputError: Jinja or matplotlib is not installed.
    """
    check_libraries()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(PACKAGE / "templates"),
    )
    found = figures(evaluation, metric)
    known, best = found["oracles"]["dataset"], found["oracles"]["instance"]
    names = ", ".join(collection.name for collection in judged)
    return environment.get_template("evaluation.html").render(
        title=title or f"Evaluation of {names}",
        figures=found,
        queries=found["systems"][0]["queries"],
        label=LABELS[metric],
        labels=LABELS,
        names=NAMES,
        oracles=[each for each in (known, best, *found["oracles"]["seeds"].values()) if each],
        remarks=remarks(evaluation, metric),
        plots=list(_plots(evaluation, judged, router, metric)),
    )


def check_libraries() -> None:
    """Raise InputError where Jinja or matplotlib is not installed."""
    check_plotting()
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise InputError("pages need Jinja", hint="pip install 'pgembed-router[plot]'") from error


def _plots(
    evaluation: Evaluation, judged: Sequence[JudgedCollection], router: Router, metric: str
) -> Iterator[Plot]:
    base, *others = evaluation.systems
    named = {_name(each): each for each in others}
    if others:
        yield _matrix(base, named, metric)
        yield _gains(base, named, metric)
    for system in others:
        if system.name in ROUTED:
            yield Plot(
                f"Who answers what: {_name(system)}",
                "Share of each domain's queries whose heaviest arm is the one of this colour.",
                share_plot(system.arms, "share of the queries", f"shares-{system.name}"),
            )
    yield _map(judged, router, evaluation.split)


def _matrix(base: SystemScores, named: Mapping[str, SystemScores], metric: str) -> Plot:
    domains = list(base.scores(metric))
    means = [[each.scores(metric)[d].mean() for d in domains] for each in (base, *named.values())]
    values = np.asarray(means, dtype=np.float64)
    return Plot(
        "Each system on each domain",
        f"{LABELS[metric]} less that of base. An expert that pays off is blue in its own column;"
        " red is where it does harm.",
        matrix_plot(list(named), domains, values[1:] - values[0], differences=True),
    )


def _gains(base: SystemScores, named: Mapping[str, SystemScores], metric: str) -> Plot:
    routed = {name: each for name, each in named.items() if each.name in ROUTED}
    shown = {name: each.gains_by_domain(base, metric) for name, each in (routed or named).items()}
    return Plot(
        "Gain by domain",
        "Difference to base with its 95 % paired bootstrap interval, each domain by itself.",
        gain_plot(shown, LABELS[metric]),
    )


def _map(judged: Sequence[JudgedCollection], router: Router, split: str) -> Plot:
    queries = [Points(name, each.vectors) for name, _, each in judged_domains(judged, split)]
    pilots = [
        Points(f"{each.expert}: {each.domain}", each.centroid[None]) for each in _pilots(router)
    ]
    svg, share = map_plot(queries, pilots)
    stars = "; stars are the router's pilot embeddings" if pilots else ""
    return Plot(
        "Queries and pilots",
        f"Base vectors of the queries, a dot each (up to 300 of a domain){stars}. The plane is that"
        f" of the two principal components of these queries, which hold {share:.0%} of their"
        " variance: what lies apart here is apart, what lies together need not be close.",
        svg,
    )


def _pilots(router: Router) -> Sequence[Pilot]:
    """Pilots of the router, of which some kinds have none."""
    pilots: Any = getattr(router.policy.head, "pilots", ())
    return [each for each in pilots if isinstance(each, Pilot)]


def _name(system: SystemScores) -> str:
    return NAMES.get(system.name, f"expert {system.name}")
