"""What every plot needs: matplotlib, a file that can be written, and clear words otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pgembed.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_plot(file: Path) -> None:
    """Refuse a plot that could not be drawn, before the work for it is done.

    Raises:
        InputError: matplotlib is missing, the file's ending is no format of pictures, or its
            folder does not exist.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise InputError(
            "a plot needs matplotlib", hint="pip install 'pgembed-router[plot]'"
        ) from error
    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if file.suffix.removeprefix(".").lower() not in formats:
        raise InputError(
            f"cannot write the plot {str(file)!r}: its ending is no format of pictures",
            hint=f"Formats are {', '.join(formats)}.",
        )
    if not file.absolute().parent.is_dir():
        raise InputError(f"cannot write the plot {str(file)!r}: there is no such folder")


def save(figure: Figure, file: Path) -> None:
    """Write a figure in the format of the file's ending.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        figure.savefig(file, dpi=110)
    except OSError as error:
        raise InputError(f"cannot write the plot {str(file)!r}: {error}") from error
