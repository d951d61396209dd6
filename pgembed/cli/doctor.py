"""The command ``doctor``: what is well, what is not, and what to do."""

from __future__ import annotations

import typer

from pgembed.cli.common import Json, Url, connected, print_json, print_table


def doctor(url: Url = None, json: Json = False) -> None:
    """Check a database: versions, text queries, workers, triggers, index, queue, statistics.

    Run it as the owner of schema pgembed. Exit status 1 means that a check failed.
    """
    from pgembed.diagnosis import diagnose

    with connected(url) as connection:
        checks = diagnose(connection)
    if json:
        print_json(checks)
    else:
        print_table(
            ("check", "verdict", "found", "remedy"),
            [(check.name, check.verdict, check.detail, check.remedy) for check in checks],
        )
    if any(check.verdict == "failed" for check in checks):
        raise typer.Exit(1)
