"""The fusion of a hybrid search: fit, show, reset."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pgembed.cli.common import (
    Json,
    Url,
    connected,
    console,
    print_json,
    print_table,
    progress_bar,
)

app = typer.Typer(no_args_is_help=True, help="How a hybrid search weighs meaning and words.")

Name = Annotated[str, typer.Argument(help="Collection.")]


@app.command()
def fit(
    name: Name,
    mode: Annotated[str, typer.Option(help="soft, hard, base, or the name of an expert.")] = "soft",
    split: Annotated[str, typer.Option(help="Judged queries to fit on.")] = "dev",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure only; what serves stays.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Fit the weight of words to judged queries; install it if it is not below the better arm."""
    from pgembed.fusion_fitting import fit_fusion

    with connected(url) as connection, progress_bar("Fitting the fusion", quiet=json) as progress:
        fitted = fit_fusion(
            connection,
            name,
            mode=mode,
            split=split,
            install=not dry_run,
            on_progress=lambda done, total: progress.update(
                progress.task_ids[0], completed=done, total=total
            ),
        )
    if json:
        print_json(fitted)
        return
    print_table(
        ("search", f"nDCG@10 on {fitted.queries} {split} queries"),
        [
            ("dense arm alone", fitted.dense),
            ("lexical arm alone", fitted.lexical),
            ("reciprocal ranks", fitted.rrf),
            ("z-scores, not fitted", fitted.zscore),
            ("fitted, cross-validated", fitted.fitted),
        ],
    )
    chosen = f"{fitted.kind} with lexical weight {fitted.lexical_weight:.2f}"
    verdict = "installed" if fitted.installed else "not installed"
    console.print(f"Fusion of {name}: {chosen}, {verdict}: {fitted.reason}")


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="Collection; all where left out.")] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Show how hybrid searches fuse, and what that was fitted on."""
    from pgembed.collections import search_target
    from pgembed.fusions import list_fusions

    with connected(url) as connection:
        if name is not None:
            search_target(connection, name)
        listed = [each for each in list_fusions(connection) if name in (None, each.collection)]
    if json:
        print_json(listed)
        return
    print_table(
        ("collection", "fusion", "lexical weight", "fitted", "queries", "nDCG@10"),
        [
            (
                each.collection,
                each.kind,
                each.lexical_weight,
                f"{each.fitted_at:%Y-%m-%d %H:%M}" if each.fitted_at else "default",
                each.metrics.get("queries"),
                each.metrics.get("ndcg_at_10", {}).get("fitted"),
            )
            for each in listed
        ],
    )


@app.command()
def reset(name: Name, url: Url = None, json: Json = False) -> None:
    """Forget what was fitted: z-scores with lexical weight 0.3 serve again."""
    from pgembed.fusion import DEFAULT
    from pgembed.fusions import reset_fusion

    with connected(url) as connection:
        reset_fusion(connection, name)
    if json:
        print_json({"collection": name, **asdict(DEFAULT)})
    else:
        weight = DEFAULT.lexical_weight
        console.print(f"Hybrid searches of {name} use {DEFAULT.kind}, lexical weight {weight}.")
