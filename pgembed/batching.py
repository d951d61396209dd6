"""Group texts of nearly equal length, so that a batch holds hardly any padding."""

from __future__ import annotations

from collections.abc import Sequence

from pgembed.errors import InputError

TOLERANCE = 1.05
"""Most padded tokens per real token in a batch: arrival-order batches of 32 reach 4 and more."""


def token_budget_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group the positions of ``lengths``, longest first, into batches of similar length.

    A batch takes rows while its padded size (longest row x rows) stays within ``budget`` and
    within ``TOLERANCE`` times its real tokens; a row longer than the budget is a batch of its
    own. Every position occurs exactly once, so writing result ``i`` of a batch to its position
    restores the input order.

    Args:
        lengths: Tokens of each text.
        budget: Padded tokens that a batch should hold at most.

    Raises:
        InputError: ``budget`` is below 1.
    """
    if budget < 1:
        raise InputError(f"a token budget of {budget} holds nothing", hint="pass 1 or more")
    batches: list[list[int]] = []
    real = 0
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        length = lengths[position]
        if batches and _fits(lengths[batches[-1][0]], len(batches[-1]) + 1, real + length, budget):
            batches[-1].append(position)
            real += length
        else:
            batches.append([position])
            real = length
    return batches


def _fits(width: int, rows: int, real: int, budget: int) -> bool:
    """Say whether ``rows`` rows padded to ``width`` respect the budget and the tolerance."""
    return width * rows <= min(budget, TOLERANCE * real)
