"""The example experts of ``experts/``: exported from the study's database, each with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.routing_study.sets import TAINTED
from benchmarks.routing_study.verdicts import BASE, MULTITASK, OURS
from pgembed.database import Connection
from pgembed.expert_folders import export_expert

FOLDER = Path(__file__).parents[2] / "experts"

SHIPPED = {
    "scifact": (
        "scientific claims, answered by abstracts that support or refute them",
        "SciFact (Wadden et al. 2020). Claims: CC BY 4.0; abstracts from S2ORC: ODC-By 1.0.",
        "Train and test claims cite from the same 5,183 abstracts, and the base model saw the"
        " abstracts in its training.",
    ),
    "nl2bash": (
        "one-line shell commands, asked for by what they do",
        "NL2Bash (Lin et al. 2018). MIT.",
        "Commands of test occur in no training pair. Other shells were not measured.",
    ),
    "cuad_clauses": (
        "clauses of commercial contracts, asked for by agreement and kind of clause",
        "CUAD v1 (The Atticus Project, Hendrycks et al. 2021). CC BY 4.0.",
        "41 kinds of clauses in US contracts; questions follow a pattern. No legal advice.",
    ),
    "medquad": (
        "consumer health questions, answered by pages of the US National Institutes of Health",
        "MedQuAD (Ben Abacha and Demner-Fushman 2019). CC BY 4.0.",
        "Questions follow patterns of the source pages; real consumers ask otherwise. No medical"
        " advice.",
    ),
}
"""What each is for, its data and licence, and its limits."""

CARD = (Path(__file__).parent / "card.md").read_text()


def write_cards(connection: Connection, result: dict[str, Any], counts: dict[str, int]) -> None:
    """Export the experts that the database serves, and write their cards from the result."""
    sets, macro, about = result["sets"]["merged"], result["macro"]["merged"], result["about"]
    for name, (purpose, data, limits) in SHIPPED.items():
        folder = FOLDER / name
        expert = export_expert(connection, "minilm", name, folder)
        own = f"S4 expert {name}"
        card = CARD.format(
            name=name,
            rank=expert.rank,
            size=len(expert.to_bytes()) / 1000,  # type: ignore[union-attr]
            purpose=purpose,
            data=data,
            limits=limits,
            tainted=" Tainted: see above." if name in TAINTED else "",
            train=counts[name],
            documents=about["documents"],
            domains=len(about["domains"]),
            queries=about["test_queries"][name],
            base=sets[BASE][name],
            own=sets[own][name],
            multitask=sets[MULTITASK][name],
            routed=sets[OURS][name],
            base_macro=macro[BASE]["domains"],
            own_macro=macro[own]["domains"],
            multitask_macro=macro[MULTITASK]["domains"],
            routed_macro=macro[OURS]["domains"],
        )
        (folder / "README.md").write_text(card)
