"""The ``pgembed`` command."""

from __future__ import annotations

import sys

INTERRUPTED = 130
"""What Typer exits with after Ctrl-C, as shells expect."""


def main() -> None:
    """Run the command line; an error is a sentence on standard error, and exit status 1."""
    try:
        from pgembed.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(
            f"the pgembed command needs {error.name}.\nHint: pip install 'pgembed-router[cli]'"
        )
    import psycopg

    from pgembed.cli.common import errors, printable
    from pgembed.errors import PgembedError

    try:
        app()
    except (PgembedError, psycopg.Error) as error:
        message = printable(f"pgembed: {str(error).strip()}")
        errors.print(message, style="red", highlight=False, soft_wrap=True)
        sys.exit(1)
    except SystemExit as stopped:
        if stopped.code == INTERRUPTED:
            errors.print("Stopped. What was finished is kept; run the command again to go on.")
        raise


__all__ = ["main"]
