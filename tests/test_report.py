"""The pages: well-formed, self-contained, true to what they are made from, and safe with hostile names."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import product

import pytest
from conftest import striped
from test_cli import ADAPT, place  # noqa: F401

from tbft.choosing.choice import choose, options_of
from tbft.choosing.cost import Cost
from tbft.cli import main
from tbft.diagnosis.evidence import example_evidence
from tbft.diagnosis.levels import INPUT_DISTANCE, STRAYS, diagnose_evidence
from tbft.errors import MissingExtraError
from tbft.plan import find_recipe
from tbft.report import Adaptation, Shown, Strip, adaptation_page, drawing, pages
from tbft.report.drawing import draw_svg
from tbft.report.inputs import (
    Claim,
    CostTable,
    CostWay,
    Effort,
    Experiment,
    Figure,
    Grid,
    Noise,
    Reproduction,
    Results,
)
from tbft.report.reproduction import reproduction_page
from tbft.report.theme import DARK, LIGHT
from tbft.report.words import percent, points, seconds, size, unbroken
from tbft.scenarios.sheets import png, scenario_rows
from tbft.verification.acceptance import compare

VOID = {"meta", "link", "img", "source", "br", "hr"}
HOSTILE = [
    '<script>alert("1")</script>',
    "</style>'\"&amp;",
    "$\\frac{x_{",
    "\u56fe\u50cf",
    "a" * 300,
    "",
    "_x",
]


class Page(HTMLParser):
    """A page, walked through: its text, its elements, and whether they nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split(" ")).replace("\n", " ")

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def charts(self) -> list[str]:
        """The SVGs of the light page."""
        start = "data:image/svg+xml;base64,"
        uris = [image["src"] for image in self.named("img") if image["src"].startswith(start)]
        return [base64.b64decode(uri.removeprefix(start)).decode() for uri in uris]


def checked(html: str) -> Page:
    """A page that keeps the promises of every page."""
    page = Page(html)
    assert not page.named("script") and not page.named("iframe")
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    policy = [m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert all(image["alt"].strip() for image in page.named("img"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in page.named("a")} | {s["aria-labeledby"] for s in page.named("section")}
    assert targets <= set(ids)
    assert len(page.named("h1")) == 1
    assert "url(" not in html and "@import" not in html and "\x00" not in html
    for svg in page.charts():
        assert not re.search(r"(href|src)=\"(?!#)", svg) and "<script" not in svg and "<image" not in svg
        assert len(svg) < 60_000
    return page


@pytest.fixture
def undrawn(monkeypatch):
    """Charts without anything on them, for tests of the words around them: drawing takes time."""
    monkeypatch.setattr(drawing, "draw_svg", lambda *_: "<svg/>")


def result(**changed):
    """What ``Personalization.to_json()`` gives, made by hand around a real choice."""
    evidence = example_evidence(
        distance=0.37, strays=211.0, accuracy=0.21, accuracy_p=1e-30, mapped_accuracy=0.23,
        block_distances={"front": 0.37, "rear": 0.9}, pixels={"brightness": -0.1, "high frequencies": 2.1},
    )  # fmt: skip
    options = options_of(["front", "layer2", "layer3", "rear"], "fc", batch_norm=True)
    costs = {o.name: Cost(1e9 * i, 1.5 * i, 1000 * i) for i, o in enumerate(options)}
    choice = choose(diagnose_evidence(evidence), options, costs, find_recipe("fast")).to_json()
    labels = striped().labels
    made = {
        "model": "digits", "data": "samples/set.npz + gaussian_noise:5", "level": "input", "arm": "front",
        "block": "front", "recipe": "fast", "source_share": None, "seed": 3,
        "accuracy_before": 0.2087, "accuracy_after": 0.6961, "loss_before": 3.5, "loss_after": 1.01,
        "class_accuracies_before": {"cat": 0.1, "dog": 0.8, "eel": None},
        "class_accuracies_after": {"cat": 0.9, "dog": 0.6, "eel": None},
        "wall_seconds": 18.1, "cpu_seconds": 9.04, "peak_rss_bytes": 616 * 2**20, "peak_rss_scope": "window",
        "energy_joules": None, "energy_kind": "unavailable", "patch_bytes": 93896, "tensors_changed": 40,
        "tuned_parameters": 19120, "train_samples": 1000, "val_samples": 60, "test_samples": 1500,
        "group_by": None, "best_epoch": 2, "interrupted": False, "choice": choice,
        "acceptance": asdict(compare(labels, (labels + 1) % 3, labels)),
        "history": [
            {"epoch": i, "train_loss": 1 / i, "val_loss": None, "val_accuracy": None} for i in (1, 2)
        ],
        "base_fingerprint": "4b64b739", "tuned_fingerprint": "1c2d3e4f", "threads": 1,
        "versions": {"tbft": "0.1.0", "torch": "2.13.0"},
    }  # fmt: skip
    return {**made, **changed}


def adaptation(**changed) -> Adaptation:
    strips = [
        Strip(
            caption,
            [Shown(png(x), shown.class_names[y]) for x, y in zip(shown.inputs, shown.labels, strict=True)],
        )
        for caption, shown in scenario_rows("contrast:5", striped(), across=3)
    ]
    limits = {"distance": INPUT_DISTANCE, "strays": STRAYS}
    return Adaptation(result(**changed), "base.pth", "user.safetensors", 1_467_752, strips, limits)


def test_an_adaptations_page_says_what_its_result_says():
    given = adaptation()
    page, r = checked(adaptation_page(given)), given.result
    for words in (
        percent(r["accuracy_before"]), percent(r["accuracy_after"]), "+48.7", "19,120", seconds(9.04),
        size(93896), percent(93896 / 1_467_752), "60\u00a0labels", "energy", "unavailable", "4b64b739",
        "Drift at the input level", "tbft patch apply user.safetensors --weights base.pth --out tuned.",
        "tbft patch revert user.safetensors", unbroken(r["choice"]["explanation"]),
    ):  # fmt: skip
        assert words in page.text
    for reason in r["choice"]["diagnosis"]["reasons"]:
        assert unbroken(reason[1:]) in page.text
    for option in r["choice"]["costs"]:
        assert option in page.text
    charts = page.charts()
    assert any(">+80<" in svg and ">\u221220<" in svg for svg in charts)  # of each class
    assert any(f">{points(r['acceptance']['low'])}<" in svg for svg in charts)
    assert any(">0.37<" in svg and ">0.9<" in svg for svg in charts)  # distances by block
    assert sum("png" in image["src"][:20] for image in page.named("img")) == 6


def test_the_same_values_give_the_same_bytes():
    assert adaptation_page(adaptation()) == adaptation_page(adaptation())


UNTRAINED = {"block": None, "history": [], "best_epoch": None}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"choice": None}, "The level was given by hand."),
        ({"choice": None, "level": None, "arm": "layer2+fc", "block": None}, "The arm was given by hand"),
        ({"choice": None, "acceptance": None, "val_samples": 0}, "--val holds some out"),
        ({"choice": None, "acceptance": None}, "chose the epoch"),
        ({**UNTRAINED, "arm": "none", "acceptance": None}, "Nothing was changed"),
        ({**UNTRAINED, "arm": "adabn"}, "adapting BatchNorm statistics alone"),
        ({"arm": "full", "block": None}, "all of the network"),
        ({"arm": "fc", "block": "rear"}, "tuning one layer: fc"),
        ({"interrupted": True}, "stopped by Ctrl-C"),
        ({f"class_accuracies_{when}": {"a": None} for when in ("before", "after")}, "No class has test"),
        ({"energy_joules": 12.34, "energy_kind": "measured", "energy_source": "rapl package-0",
          "energy_scope": "package", "energy_net_joules": 8.0}, "12.3\u00a0J, measured, by rapl package-0"),
        ({"energy_joules": 5.0, "energy_kind": "estimated", "energy_source": "profile pi-5",
          "energy_relative_error": 0.2}, "estimated, by profile pi-5, ± 20\u00a0%"),
    ],
)  # fmt: skip
def test_pages_of_other_outcomes(changed, words, undrawn):
    assert words in checked(adaptation_page(adaptation(**changed))).text


def test_an_undone_plan_is_told_as_such(undrawn):
    labels = striped().labels
    judged = asdict(compare(labels, labels, (labels + 1) % 3))
    page = checked(adaptation_page(replace(adaptation(acceptance=judged), patch_path=None)))
    assert "Tried and undone" in page.text and "broke 60" in page.text
    assert "nothing to undo" in page.text and "tbft patch apply" not in page.text


def test_a_model_from_a_factory_is_told_how_in_python(undrawn):
    page = checked(adaptation_page(replace(adaptation(), weights=None)))
    assert "Patch.load('user.safetensors').apply(model)" in page.text


def test_hostile_names_are_shown_and_not_obeyed():
    accuracies = dict.fromkeys(HOSTILE, 0.5)
    given = adaptation(
        class_accuracies_before=accuracies,
        class_accuracies_after=accuracies,
        model=HOSTILE[0],
        data=HOSTILE[1],
    )
    strip = Strip(HOSTILE[0], [Shown(b"\x89PNG", name, name or "x") for name in HOSTILE])
    page = checked(
        adaptation_page(replace(given, strips=[strip], patch_path="a b'.safetensors", weights="$(x)"))
    )
    assert HOSTILE[0] in page.text and HOSTILE[1] in page.text
    assert """--weights '$(x)'""" in page.text and "'a b'\"'\"'.safetensors'" in page.text


def test_a_loss_that_is_no_number_is_left_out():
    history = [{"epoch": i, "train_loss": loss, "val_loss": None, "val_accuracy": 0.5}
               for i, loss in enumerate([2.0, float("nan"), float("inf")], start=1)]  # fmt: skip
    page = checked(adaptation_page(adaptation(choice=None, history=history)))
    assert any("training from 2 to 2" in image["alt"] for image in page.named("img"))


def test_many_classes_fit_on_a_chart():
    before = {f"class {i}": i / 1000 for i in range(300)}
    after = {name: share + (0.5 if name.endswith("97") else 0) for name, share in before.items()}
    page = checked(adaptation_page(adaptation(class_accuracies_before=before, class_accuracies_after=after)))
    assert "The chart shows the 24 that changed most" in page.text
    assert any("class 297" in svg and "class 299" not in svg for svg in page.charts())


SIZES = ("10 %", "20 %")


def accuracies(**shares: float) -> Grid:
    cells = {
        (row, m): Figure(share + 0.01 * i, 0.004, 3)
        for i, row in enumerate(SIZES)
        for m, share in shares.items()
    }
    return Grid(SIZES, list(shares), cells)


def reproduction(**changed) -> Reproduction:
    measured = accuracies(
        none=0.2, front=0.671, layer2=0.587, layer3=0.57, rear=0.532, full=0.655, ours=0.6961
    )
    published = accuracies(front=0.7353, layer2=0.7018, layer3=0.7017, rear=0.6824, full=0.7321)
    detail = Grid(
        ["fog:5", "contrast:5"],
        ["none", "front"],
        {("fog:5", "none"): Figure(0.31), ("fog:5", "front"): Figure(0.62)},
    )
    effort = [
        Effort("none", "paper", 0.0, 0.2),
        Effort("front", "paper", 38.0, 0.671),
        Effort("front", "fast", 9.0, 0.69),
    ]
    blocks = ("front", "layer2", "layer3", "rear")
    square = {
        (tuned, n): Figure(0.85 if tuned == n else 0.3) for tuned, n in product(blocks, ("front", "rear"))
    }
    noise = Grid(blocks, ["front", "rear"], square)
    cost = [
        CostWay("frozen", [0.45, 0.53], [0.15, None], [2.0, 3.0], "estimated"),
        CostWay("published", [0.46, 0.54], [0.1509, None]),
    ]
    found = Results(
        "paper",
        "resnet26",
        "CIFAR-10 (JPEG copy)",
        False,
        measured,
        {"front": 0.94},
        published,
        detail,
        "10 %",
    )
    given = Reproduction(
        claims=[
            Claim("front is best", "front at 10 %", "front at 10 %", True, 12),
            Claim("saves energy", "41.57 %", "38.2 % of time", False, 8),
            Claim("block 3 is best", "65.8 %", "needs tiny17", None, 0),
            Claim("tbft is as good", None, "1 points", True, 3),
        ],
        experiments=[
            Experiment("cifar10-c", "c", "front", [found], effort, "10 %"),
            Experiment("tiny17", "t", "layer3"),
        ],
        noise=Noise(noise, noise),
        costs=[CostTable("ResNet-26 at 32 px", ["front", "full"], cost)],
        method=[("machine", "two cores")],
        warnings=["2 records come from a dirty tree."],
    )  # fmt: skip
    return replace(given, **changed)


def test_the_reproductions_page_says_what_its_records_say():
    page = checked(reproduction_page(reproduction()))
    for words in (
        "1 of the paper's 2 claims that could be checked holds", "✓ holds", "✕ does not hold",
        "○ not enough records",
        "67.1 ± 0.4", "68.1 ± 0.4", "73.5 ± 0.4",
        "front at 10 % (67.1\u00a0%, as the paper says)", "3\u00a0runs",
        "tbft reproduce run tiny17", "tbft reproduce run cifar10-c --recipe fast", "dirty tree", "two cores",
        "saves 15\u00a0%", "2\u00a0J", "estimated", "unavailable",
        "is the best one to tune in 2 of 2 columns", "Measured here, recipe paper",
    ):  # fmt: skip
        assert words in page.text
    assert [word for word in page.words if word in ("69.6 ± 0.4", "70.6 ± 0.4")] == [
        "69.6 ± 0.4",
        "70.6 ± 0.4",
    ]
    best = [i for i, (tag, a) in enumerate(page.elements) if tag == "strong" and a.get("class") == "best"]
    assert len(best) == len(SIZES)
    charts = page.charts()
    assert any(">67.1<" in svg and ">73.5<" in svg and ">69.6  ◂ best<" in svg for svg in charts)
    assert any(">fog<" in svg and ">62<" in svg for svg in charts)
    assert "What drifts look like" not in page.text
    assert "no records yet" not in page.text


def test_means_that_lack_drifts_are_said_to(undrawn):
    whole = reproduction()
    (found,) = whole.experiments[0].results
    lacking = replace(whole.experiments[0], results=[replace(found, partial=["20 %"])])
    page = checked(reproduction_page(replace(whole, experiments=[lacking])))
    assert "At 20 % some drifts have no records yet" in page.text


def test_the_best_block_is_told_where_all_have_been_tuned():
    from tbft.report.reproduction import _best_blocks

    cells = {(row, "front"): Figure(0.8 if row == "front" else 0.4) for row in ("front", "layer2", "layer3")}
    assert _best_blocks(Grid(["front"], ["front"], cells)) == []
    assert _best_blocks(Grid(["front"], ["front"], cells | {("rear", "front"): Figure(0.1)})) == [
        ("front", "front")
    ]


def test_a_claim_that_does_not_hold_is_said_not_to(undrawn):
    wrong = reproduction(claims=[Claim("front is best", "front", "rear", False, 3)])
    page = checked(reproduction_page(wrong))
    assert "0 of the paper's 1 claim that could be checked hold" in page.text and "✓ holds" not in page.text


def test_without_records_every_section_says_what_makes_them():
    empty = reproduction(
        claims=[], experiments=[Experiment("cifar10-c", "c"), Experiment("cifar-flip", "f")], costs=[],
        noise=Noise(None, reproduction().noise.published), method=[], warnings=[],
    )  # fmt: skip
    page = checked(reproduction_page(empty))
    for name in ("cifar10-c", "cifar-flip", "noise-motivation", "system-cost"):
        assert f"tbft reproduce run {name}" in page.text
    assert "No claim of the paper can be checked yet" in page.text


def records() -> list[dict]:
    """Of the label reversal, as ``tbft reproduce run`` writes them; quick ones of the noise table too."""
    shares = {
        "none": 0.03,
        "adabn": 0.05,
        "front": 0.2,
        "layer2": 0.3,
        "layer3": 0.5,
        "rear": 0.74,
        "full": 0.44,
    }
    common = {
        "recipe": "paper",
        "model": "resnet26-cifar10",
        "base_fingerprint": "4b64b739093f15ff",
        "data": "JPEG copy",
        "engine": "pool",
        "versions": {"tbft": "0.1.0", "torch": "2.13.0", "python": "3.11"},
        "commit": "52a47e5c0d",
        "machine": {"processor": "<b>chip</b>", "system": "Linux", "cores": 2, "threads": 1},
    }
    made = []
    for i, (method, seed, share) in enumerate(product([*shares, "ours"], (0, 1), (10, 20, 30))):
        accuracy = round(shares.get(method, 0.75) + 0.01 * seed + 0.001 * share, 4)
        cost = {"cpu_seconds": 1.0 + i, "energy_joules": None, "energy_kind": "unavailable"}
        made.append(
            {
                **common,
                "id": f"{i:x}",
                "experiment": "cifar-flip",
                "quick": False,
                "drift": "labels:reverse",
                "noised": None,
                "method": method,
                "size": share,
                "seed": seed,
                "accuracy": accuracy,
                "measurement": cost,
                "dirty": seed == 1,
                "finished": f"2026-11-2{seed}T00:00:00Z",
            }
        )
    for method, noised in product(["front", "rear"], ["front", "rear"]):
        noisy = {"experiment": "noise-motivation", "quick": True, "drift": None, "noised": noised, "size": 10}
        accuracy = 0.81 if method == noised else 0.4
        made.append({**made[0], **noisy, "id": method + noised, "method": method, "accuracy": accuracy})
    return made


def test_numbers_come_from_the_records_alone(tmp_path, capsys):
    folder = tmp_path / "records" / "cifar-flip-1"
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records()))
    system = {
        "way": "frozen",
        "cpu_seconds": [0.012] * 6,
        "saving_percent": [51.5] * 5 + [None],
        "energy_joules": None,
    }
    printed = {"time_s": [0.45] * 6, "saving_pct": [15.09] * 5 + [None], "energy_j": [0.09] * 6}
    columns = ["block1", "block2", "block3", "fc", "block_avg", "full"]
    cost = {
        "model": "resnet26-cifar10",
        "resolution": 32,
        "system_columns": columns,
        "published": printed,
        "energy_kind": "unavailable",
        "quick": False,
        "finished": "2026-11-25T00:00:00Z",
        "system": {"one sample, one epoch": [system]},
    }
    (tmp_path / "records" / "system-cost-resnet26-cifar10.json").write_text(json.dumps(cost))
    assert main(f"reproduce report --records {tmp_path}/records --out {tmp_path}/out".split()) == 0
    assert "index.html" in capsys.readouterr().out
    page = checked((tmp_path / "out" / "index.html").read_text())
    made = json.loads((tmp_path / "out" / "tables.json").read_text())["tables"]
    flip = next(table for table in made if table["experiment"] == "cifar-flip")
    for by_size in flip["figures"].values():
        for figure in by_size.values():
            assert f"{100 * figure['accuracy']:.1f} ± {100 * figure['half_width']:.1f}" in page.words
    assert (
        sum(f">{100 * flip['figures']['rear']['10 %']['accuracy']:.1f}" in svg for svg in page.charts()) == 1
    )
    for claim in json.loads((tmp_path / "out" / "claims.json").read_text()):
        assert claim["claim"] in page.words
        if claim["holds"] is None:
            assert f"needs {claim['missing']}" in page.words
    assert page.text.count("✓ holds") + page.text.count("✕ does not hold") >= 5
    for words in (
        "24 of 52 records",
        "<b>chip</b>, 2 cores",
        "52a47e5c0d",
        "quick version",
        "saves 52",
        "12\u00a0ms",
        "rear at 10 %",
        "as the paper says",
        "labels:reverse",
    ):
        assert words in page.text
    assert any(">81<" in svg and ">40<" in svg for svg in page.charts())


def test_light_and_dark_differ_in_colors_only():
    def draw(axes, theme):
        axes.plot([0, 1], [0.12345, 1], color=theme.arm("front"), label="a")
        axes.set_title("0.12345")

    light, dark = (draw_svg(draw, theme, 300, 200) for theme in (LIGHT, DARK))
    assert light != dark and ">0.12345<" in light  # text is not rounded, as coordinates are
    color_or_name = r"#[0-9a-f]{6}\b|(?<=[#\"])[mpC]\w+(?=\")"
    assert re.sub(color_or_name, "", light) == re.sub(color_or_name, "", dark)


def test_pages_need_no_torch():
    code = (
        "import sys; from tbft.report.reproduction import reproduction_page; import tbft.report; "
        "print([name for name in ('torch', 'matplotlib', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_missing_extra_is_named(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    pages._environment.cache_clear()
    use = {"jinja2": lambda: pages.render("base.html"), "matplotlib": lambda: adaptation_page(adaptation())}
    for attempt in (pages.check_extra, use[module]):
        with pytest.raises(MissingExtraError, match=r"pip install 'tbft\[report\]'"):
            attempt()


def test_personalize_writes_a_page(place, capsys):  # noqa: F811
    assert main([*ADAPT, "--out", "user.safetensors", "--drift", "contrast:5", "--report", "user.html"]) == 0
    assert "user.html" in capsys.readouterr().out
    page = checked((place / "user.html").read_text())
    assert "The level was given by hand" in page.text and "contrast:5" in page.text
    assert "tbft patch apply user.safetensors --weights base.pt" in page.text


def test_a_page_that_cannot_be_written_is_refused_before_the_work(place, capsys):  # noqa: F811
    assert main([*ADAPT, "--report", "user.pdf"]) == 2
    assert "written as .html" in capsys.readouterr().err
    assert main([*ADAPT, "--report", "nowhere/user.html"]) == 2
    assert "the folder nowhere does not exist" in capsys.readouterr().err
