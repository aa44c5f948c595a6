"""The page of the reproduced paper: which claims hold, our figures beside the published ones, their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paper.claims import Claim
from paper.experiments import EXPERIMENTS
from paper.page.accuracy import detail_charts, experiment_section, noise_section
from paper.page.cost import effort_charts, system_tables
from paper.page.names import experiment_label
from paper.page.origin import origin_of, warnings_of
from paper.records import Record
from paper.tables import Table
from tbft.report.inputs import Strip
from tbft.report.pages import render
from tbft.report.words import DASH, count

VERDICTS = {
    True: ("holds", "✓ holds"),
    False: ("fails", "✕ does not hold"),
    None: ("open", "○ not enough records"),
}
#: Experiments with a section of another kind.
APART = ("noise-motivation", "system-cost")


def reproduction_page(
    tables: Sequence[Table],
    claims: Sequence[Claim],
    records: Sequence[Record],
    costs: Sequence[Mapping[str, Any]] = (),
    strips: Sequence[Strip] = (),
) -> str:
    """The page as HTML.

    Args:
        tables, claims: made from the records.
        records: what they say about how they were made.
        costs: contents of the files of the experiment ``system-cost``.
        strips: sample pictures of the drifts; empty: the section is left out.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    papers = [claim for claim in claims if claim.published is not None]
    ours = [claim for claim in claims if claim.published is None]
    shown = {name: _chosen(tables, name) for name in EXPERIMENTS}
    sections = [name for name in EXPERIMENTS if name not in APART]
    return render(
        "reproduction.html",
        package="paper.page",
        contents=_contents(sections, bool(strips)),
        headline=_headline(papers),
        open_claims=sum(claim.holds is None for claim in papers),
        claims=[
            ("What the paper claims", [_claim(claim) for claim in papers]),
            ("Beyond what the paper claims", [_claim(claim) for claim in ours]),
        ],
        experiments=[experiment_section(EXPERIMENTS[name], shown[name]) for name in sections],
        noise=noise_section(shown["noise-motivation"]),
        efforts=[chart for name in sections for chart in effort_charts(name, shown[name])],
        details=[chart for name in sections for chart in detail_charts(shown[name])],
        costs=system_tables(costs),
        strips=strips,
        origin=list(origin_of(records)),
        warnings=list(warnings_of(records)),
    )


def _chosen(tables: Sequence[Table], name: str) -> list[Table]:
    """The tables of an experiment; quick ones only for recipes without a whole one."""
    own = [table for table in tables if table.experiment == name]
    whole = {table.recipe for table in own if not table.quick}
    return [table for table in own if not table.quick or table.recipe not in whole]


def _contents(sections: Sequence[str], has_strips: bool) -> list[tuple[str, str]]:
    return [
        ("claims", "Does it hold?"),
        *((name, experiment_label(name)) for name in sections),
        ("noise-motivation", "Noise on one block"),
        ("cost", "Accuracy against cost"),
        ("detail", "Corruption by corruption"),
        ("system-cost", "System cost"),
        *([("drifts", "What drifts look like")] if has_strips else []),
        ("method", "How it was measured"),
    ]


def _headline(claims: Sequence[Claim]) -> str:
    checked = [claim for claim in claims if claim.holds is not None]
    if not checked:
        return "No claim of the paper can be checked yet: there are too few records"
    held, noun = sum(bool(claim.holds) for claim in checked), "claim" if len(checked) == 1 else "claims"
    verb = "holds" if held == 1 else "hold"
    return f"{held} of the paper's {len(checked)} {noun} that could be checked {verb}"


def _claim(claim: Claim) -> dict[str, Any]:
    kind, verdict = VERDICTS[claim.holds]
    return {
        "claim": claim.claim,
        "published": DASH if claim.published is None else _number(claim.published, claim.unit),
        "ours": claim_in_words(claim),
        "kind": kind,
        "verdict": verdict,
        "records": count(len(claim.records), "record") if claim.records else "",
    }


def claim_in_words(claim: Claim) -> str:
    """Our number, and what is missing.

    >>> claim_in_words(Claim("a gain", "points", 15.3, 14.0, None, half_width=0.5, missing="more seeds"))
    '14 ± 0.5\\xa0points; needs more seeds'
    """
    spread = "" if claim.half_width is None else f" ± {claim.half_width:g}"
    words = [] if claim.ours is None else [_number(claim.ours, claim.unit, spread)]
    return "; ".join(words + ([f"needs {claim.missing}"] if claim.holds is None else []))


def _number(value: float, unit: str, spread: str = "") -> str:
    noun = "point" if (value, unit, spread) == (1, "points", "") else unit
    return f"{value:g}{spread}\u00a0{noun}".replace("-", "\u2212")
