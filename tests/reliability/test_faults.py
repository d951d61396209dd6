"""Every fault is withstood: nothing is lost, and the worker goes on."""

from __future__ import annotations

import pytest

from tests.reliability.faults import FAULTS, LONG, staged


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in LONG])
def test_a_fault_is_withstood(database_url: str, template: str, name: str) -> None:
    """The queue empties by itself once the fault is over, and every row is in step."""
    with staged(database_url, template) as stage:
        verdict = FAULTS[name](stage)
    print(f"{name}: {verdict}")
