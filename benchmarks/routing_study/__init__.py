"""Does routing over experts pay? The experiment behind docs/routing-study.md."""
