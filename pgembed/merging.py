"""Merge experts of one kind and one base model into a new one, and pass it through a gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembed.bootstrap import Interval, paired_bootstrap
from pgembed.database import Connection, rows_of, translated
from pgembed.errors import InputError, NotFoundError, TrainingError
from pgembed.experts import check_name, load_expert, register_expert
from pgembed.judgments import JudgedCollection, JudgedQueries, one_encoder
from pgembed.merge_search import Merged, Method, Progress, Source, common_kind, merge
from pgembed.metrics import ndcg_of
from pgembed.model import EncoderSpec, Expert, Vectors
from pgembed.registry import open_registered, registered_encoder

TOLERANCE = 0.005
"""How much nDCG@10 a merged expert may lose in any domain, against base and against the best of
its sources there."""

CANDIDATE = "candidate"
"""Name under which a LoRA expert takes its place in a bank while it is measured."""

Apply = Callable[[Any, JudgedQueries], Vectors]
"""Query vectors under an expert: float32, shape (n, dimensions), unit length."""


@dataclass(frozen=True, slots=True)
class MergedExpert:
    """What a merge registered, and whether the gate let it in."""

    expert: Expert
    accepted: bool
    reason: str


def merge_experts(
    connection: Connection,
    name: str,
    sources: Sequence[str],
    judged: Sequence[JudgedCollection],
    *,
    method: Method = "soup",
    rank: int | None = None,
    apply: Apply | None = None,
    on_candidate: Progress | None = None,
) -> MergedExpert:
    """Merge registered experts and register the result; nothing is committed here.

    The probe is the mean nDCG@10 of the dev queries by exact ranking, each domain of the sources
    counting alike. The merged expert is ``active`` where it loses no more than 0.5 points of
    nDCG@10 in any of these domains, neither against the best of its sources nor against base (a
    source may itself be worse than base), and where its mean gain over base is significant (paired
    bootstrap, stratified by domain); else it is ``rejected``. Probe and gate look at the same dev
    queries, so report on the split test.

    Args:
        connection: the caller's.
        name: of the merged expert; one of that name is replaced, unless it serves and this one
            is refused.
        sources: names of two or more experts of the collections' encoder, in any state.
        judged: whose dev queries decide, all of one encoder.
        method: how task vectors are joined.
        rank: of the merged expert; the greatest of the sources' when None.
        apply: gives query vectors under an expert, where it is not the registered encoder.
        on_candidate: called with how many candidates were scored, and how many there are.

    Raises:
        NotFoundError: the encoder has no such expert.
        TrainingError: a domain of the sources has no dev queries.
        InputError: the name or the rank cannot be, or the sources are not of one kind.
        FingerprintError: the sources differ in their base model.
    """
    check_name(name)
    if name in sources:
        raise InputError(f"the merged expert cannot replace its source {name!r}: name it otherwise")
    encoder = registered_encoder(connection, one_encoder(judged))
    found = read_sources(connection, encoder, sources)
    common_kind(found, method)
    dev = _dev_queries(found, judged)
    scorer = _Scorer(dev, apply or _apply_of(connection, encoder, found[0].kind))
    merged = merge(
        found,
        lambda expert: float(np.mean([each.mean() for each in scorer.scores(expert)])),
        method=method,
        rank=rank,
        on_candidate=on_candidate,
    )
    metrics = _metrics(found, merged, scorer, method)
    state = "active" if metrics["gate"]["accepted"] else "rejected"
    trained_on = ", ".join(collection.name for collection in judged)
    register_expert(
        connection,
        encoder,
        name,
        merged.expert,
        state=state,
        trained_on=trained_on,
        metrics=metrics,
    )
    stored = Expert(name, encoder.name, found[0].kind, state, None, metrics)
    return MergedExpert(stored, metrics["gate"]["accepted"], metrics["gate"]["reason"])


def read_sources(
    connection: Connection, encoder: EncoderSpec, names: Sequence[str]
) -> list[Source]:
    """Experts of an encoder by name, in the order given, whatever their state.

    Raises:
        NotFoundError: there is no such expert; the hint lists those that exist.
        InputError: an artifact is damaged.
    """
    with translated():
        rows = rows_of(
            connection,
            "select name, kind, fingerprint, sha256, domain from pgembed.expert"
            " where encoder = %s and kind <> 'base'",
            (encoder.name,),
        )
    stored = {row[0]: row for row in rows}
    unknown = [name for name in names if name not in stored]
    if unknown:
        raise NotFoundError(
            f"encoder {encoder.name!r} has no expert {unknown[0]!r} that could be merged",
            hint=f"Its experts are {', '.join(sorted(stored)) or 'none'}.",
        )
    found = []
    for name in names:
        _, kind, fingerprint, sha256, domain = stored[name]
        expert = load_expert(connection, encoder.name, name)
        found.append(Source(name, kind, fingerprint, sha256, domain, expert))
    return found


def _dev_queries(
    sources: Sequence[Source], judged: Sequence[JudgedCollection]
) -> dict[str, tuple[JudgedCollection, JudgedQueries]]:
    """Dev queries of the sources' domains by name; a general expert's are all domains."""
    wanted = {source.domain for source in sources}
    found = {}
    for collection in judged:
        for domain in collection.domains:
            queries = collection.split(domain, "dev")
            if len(queries) and (None in wanted or domain in wanted):
                label = domain if len(judged) == 1 else f"{collection.name}/{domain}"
                found[label] = collection, queries
    places = ", ".join(repr(collection.name) for collection in judged)
    with_dev = {domain for each in judged for domain, split in each.queries if split == "dev"}
    for source in sources:
        if not found or (source.domain is not None and source.domain not in with_dev):
            raise TrainingError(
                f"domain {source.domain!r} of expert {source.name!r} has no dev queries in"
                f" {places}",
                hint="A merge is judged on the domains of all its sources: name the collections"
                " that have their judgments.",
            )
    return found


def _apply_of(connection: Connection, encoder: EncoderSpec, kind: str) -> Apply:
    """How experts of a kind give vectors: a map of the base vectors, or a pass of the encoder."""
    if kind == "linear":
        return lambda expert, queries: expert.apply(queries.vectors)
    from pgembed.encoders.bank import AdapterBank

    bank = AdapterBank.open(open_registered(connection, encoder.name))
    started: dict[tuple[str, ...], Any] = {}

    def apply(expert: Any, queries: JudgedQueries) -> Vectors:
        if queries.texts not in started:
            started[queries.texts] = bank.start(queries.texts)
        bank.add(CANDIDATE, expert)
        try:
            rows = range(len(queries))
            return bank.finish(started[queries.texts], rows, [CANDIDATE] * len(queries))
        finally:
            bank.remove(CANDIDATE)

    return apply


@dataclass(frozen=True, slots=True)
class _Scorer:
    dev: Mapping[str, tuple[JudgedCollection, JudgedQueries]]
    apply: Apply

    def scores(self, expert: Any) -> list[NDArray[np.float64]]:
        """The nDCG@10 of each dev query, domain by domain; of base where the expert is None."""
        return [
            ndcg_of(
                queries.vectors if expert is None else self.apply(expert, queries),
                collection.corpus,
                queries.relevant,
            )
            for collection, queries in self.dev.values()
        ]


def _metrics(
    sources: Sequence[Source], merged: Merged, scorer: _Scorer, method: str
) -> dict[str, Any]:
    base, reached = scorer.scores(None), scorer.scores(merged.expert)
    single = {source.name: scorer.scores(source.expert) for source in sources}
    by_domain: dict[str, dict[str, Any]] = {}
    for number, domain in enumerate(scorer.dev):
        means = {name: float(scores[number].mean()) for name, scores in single.items()}
        best = max(means, key=lambda name: means[name])
        by_domain[domain] = {
            "base": round(float(base[number].mean()), 6),
            "expert": round(float(reached[number].mean()), 6),
            "gain": round(float((reached[number] - base[number]).mean()), 6),
            "queries": len(base[number]),
            "sources": {name: round(mean, 6) for name, mean in means.items()},
            "best_source": best,
            "over_best_source": round(float(reached[number].mean()) - means[best], 6),
        }
    return {
        "merged_from": [
            {"expert": source.name, "weight": round(weight, 6), "sha256": source.sha256}
            for source, weight in zip(sources, merged.weights, strict=True)
        ],
        "method": method,
        "scale": merged.scale,
        "base_fingerprint": sources[0].fingerprint,
        "rank": merged.expert.rank,
        "discarded_energy": round(merged.discarded, 6),
        "probe": [
            {"weights": [round(w, 6) for w in weights], "scale": scale, "ndcg_at_10": round(s, 6)}
            for weights, scale, s in merged.grid
        ],
        "dev_ndcg_at_10": by_domain,
        "gate": _gate(by_domain, _gain(base, reached)),
    }


def _gain(base: Sequence[NDArray[np.float64]], reached: Sequence[NDArray[np.float64]]) -> Interval:
    """Mean gain over base with its interval, each domain counting alike."""
    return paired_bootstrap(
        np.concatenate(base),
        np.concatenate(reached),
        strata=np.repeat(np.arange(len(base)), [len(each) for each in base]),
    )


def _gate(by_domain: Mapping[str, Mapping[str, Any]], gain: Interval) -> dict[str, Any]:
    accepted, reason = _decision(by_domain, gain)
    return {
        "accepted": accepted,
        "reason": reason,
        "gain": round(gain.mean, 6),
        "interval": [round(gain.low, 6), round(gain.high, 6)],
    }


def _decision(by_domain: Mapping[str, Mapping[str, Any]], gain: Interval) -> tuple[bool, str]:
    if lost := list(_losses(by_domain)):
        return False, f"nDCG@10 is lost: {'; '.join(lost)}"
    said = (
        f"nDCG@10 changes by {gain.mean:+.3f} against base (95% interval {gain.low:+.3f} to"
        f" {gain.high:+.3f}) on {sum(each['queries'] for each in by_domain.values())} dev queries"
    )
    if gain.low <= 0:
        return False, f"{said}: not surely better than base"
    least = min(each["over_best_source"] for each in by_domain.values())
    return True, (
        f"{said}, and in no domain is more than {TOLERANCE} lost against base or the best source"
        f" (least against the best source: {least:+.3f})"
    )


def _losses(by_domain: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is lost beyond the tolerance, by domain: against base, and against the best source."""
    for domain, each in by_domain.items():
        changes = {"base": each["gain"], each["best_source"]: each["over_best_source"]}
        for other, change in changes.items():
            if change < -TOLERANCE:
                yield (
                    f"{domain or 'all'} {change:+.3f} against {other} on {each['queries']}"
                    " dev queries"
                )
