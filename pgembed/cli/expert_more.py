"""Experts together: merge them, and find out which fits a table."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pgembed.cli.common import Json, Url, connected, console, print_json, print_table, progress_bar


class Method(StrEnum):
    """How task vectors are joined."""

    soup = "soup"
    slerp = "slerp"
    ties = "ties"


def merge(
    name: Annotated[str, typer.Argument(help="Name of the merged expert; replaced if it exists.")],
    sources: Annotated[list[str], typer.Argument(help="Experts to merge: two or more.")],
    collection: Annotated[
        list[str],
        typer.Option(help="Whose dev queries choose the weights and decide; repeat for several."),
    ],
    method: Annotated[
        Method, typer.Option(help="Weighted sum, spherical interpolation, or TIES.")
    ] = Method.soup,
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="Rank of the merged expert; default: the greatest of theirs."),
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Merge experts of one kind into a new one, which serves if it loses nothing.

    Weights are searched on a grid, on dev queries of the experts' domains. If the merged expert is
    more than 0.005 of nDCG@10 below base or the best of them in any domain, or not significantly
    better than base over all of them, it is stored as rejected, and the exit status is 1.

    Example: pgembed expert merge general claims clinic --collection papers
    """
    from pgembed.judgments import read_judged
    from pgembed.merging import merge_experts

    with connected(url) as connection:
        with progress_bar("Reading vectors and queries", quiet=json) as progress:
            judged = [read_judged(connection, each) for each in collection]
            progress.update(progress.task_ids[0], total=1, completed=1)
        with progress_bar("Scoring candidates", quiet=json) as progress:
            task = progress.task_ids[0]
            merged = merge_experts(
                connection,
                name,
                sources,
                judged,
                method=method.value,
                rank=rank,
                on_candidate=lambda n, of: progress.update(task, completed=n, total=of),
            )
    metrics = merged.expert.metrics
    if json:
        print_json(merged.expert)
    else:
        parts = ", ".join(
            f"{each['expert']} {each['weight']:.2f}" for each in metrics["merged_from"]
        )
        console.print(
            f"Expert {name} is {merged.expert.state} ({method.value} of {parts};"
            f" {metrics['discarded_energy']:.1%} of the energy did not fit rank"
            f" {metrics['rank']}): {merged.reason}"
        )
    if not merged.accepted:
        raise typer.Exit(1)


class Side(StrEnum):
    """What of a table is compared."""

    query = "query"
    document = "document"


def describe(
    name: Annotated[str, typer.Argument(help="Name of the expert.")],
    collection: Annotated[
        list[str], typer.Option(help="What it was trained on; repeat for several.")
    ],
    url: Url = None,
    json: Json = False,
) -> None:
    """Store what an expert was trained on, so that it can be recommended.

    Training does this by itself; this is for experts that were merged or came from elsewhere.

    Example: pgembed expert describe general --collection papers
    """
    from pgembed.expert_domains import expert_domain
    from pgembed.judgments import one_encoder, read_judged
    from pgembed.recommending import describe_expert

    with connected(url) as connection:
        judged = [read_judged(connection, each) for each in collection]
        encoder = one_encoder(judged)
        domain = expert_domain(connection, encoder, name)
        with progress_bar("Describing", quiet=json) as progress, connection.transaction():
            sides = describe_expert(connection, encoder, name, judged, domain)
            progress.update(progress.task_ids[0], total=1, completed=1)
    if json:
        print_json({"expert": name, "encoder": encoder, "domain": domain, "sides": sides})
    else:
        console.print(f"Expert {name} is described by side {' and '.join(sides)}.")


def recommend(
    collection: Annotated[str, typer.Option(help="The table that an expert is wanted for.")],
    sample: Annotated[int, typer.Option(help="Vectors of it that are compared, 10 to 2000.")] = 500,
    side: Annotated[
        Side | None,
        typer.Option(
            help="Compare judged queries or documents; default: queries where there are 30."
        ),
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Rank the experts by how near what they were trained on is to a table.

    mmd is the maximum mean discrepancy with its 95% bootstrap interval: 0 is the same domain. An
    expert is out of domain where the interval lies above what samples of the expert's own domain
    differ by; if all are, train one, or stay with base.

    Example: pgembed expert recommend --collection papers
    """
    from pgembed.recommending import recommend_experts

    with connected(url) as connection:
        found = recommend_experts(
            connection, collection, sample=sample, side=side.value if side else None
        )
    if json:
        print_json(found)
        return
    print_table(
        ("expert", "mmd", "low", "high", "cosine", "fits"),
        [
            (fit.expert, fit.mmd, fit.low, fit.high, fit.cosine, _verdict(fit.out_of_domain))
            for fit in found.fits
        ],
        title=f"By {found.sample} {found.side} vectors of {collection}",
    )
    if found.undescribed:
        console.print(
            f"Not described: {', '.join(found.undescribed)}. Run pgembed expert describe"
            " with the collection that each was trained on."
        )
    if all(fit.out_of_domain for fit in found.fits):
        console.print("No expert was trained on such a table: train one, or stay with base.")


def _verdict(out_of_domain: bool) -> str:
    return "out of domain" if out_of_domain else "in domain"
