"""The pages: well-formed, self-contained, true to what they are made from, and safe with hostile names."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import striped
from pages_read import checked
from test_cli import ADAPT, place  # noqa: F401

from tbft.choosing.choice import choose
from tbft.choosing.cost import Cost
from tbft.choosing.estimates import estimate
from tbft.choosing.options import options_of
from tbft.cli import main
from tbft.diagnosis.evidence import Agreement, Shift, example_evidence
from tbft.diagnosis.levels import diagnose_evidence
from tbft.diagnosis.rules import INPUT_DISTANCE, Z_SCORE
from tbft.errors import MissingExtraError
from tbft.plan import Budget, find_recipe
from tbft.report import Adaptation, Shown, Strip, adaptation_page, pages
from tbft.report.drawing import draw_svg
from tbft.report.theme import DARK, LIGHT
from tbft.report.words import nonbreaking, percent, points, seconds, size
from tbft.scenarios.sheets import png, scenario_rows
from tbft.verification.decision import compare

HOSTILE = [
    '<script>alert("1")</script>',
    "</style>'\"&amp;",
    "$\\frac{x_{",
    "\u56fe\u50cf",
    "a" * 300,
    "",
    "_x",
    "\x1b[2J\x07",
    "\u202egnp",
    "\ud800",
]


def result(**changed):
    """What ``Personalization.to_json()`` gives, made by hand around a real choice."""
    evidence = example_evidence(
        shift=Shift(0.37, "bn", 211.0, {"front": 0.37, "rear": 0.9},
                    {"brightness": -0.1, "high frequencies": 2.1}),
        labels=Agreement(0.21, 1e-30, 0.23, 0.78),
    )  # fmt: skip
    options = options_of(["front", "layer2", "layer3", "rear"], "fc", batch_norm=True)
    costs = {o.name: Cost(1e9 * i, 1.5 * i, 1000 * i) for i, o in enumerate(options)}
    plans = {o.name: o.plan(find_recipe("fast"), 0, Budget()) for o in options}
    diagnosis = diagnose_evidence(evidence)
    choice = choose(diagnosis, estimate(diagnosis, options), plans, costs).to_json()
    labels = striped().labels
    made = {
        "model": "digits", "data": "samples/set.npz + gaussian_noise:5", "level": "input", "arm": "front",
        "block": "front", "recipe": "fast", "source_share": None, "seed": 3,
        "accuracy_before": 0.2087, "accuracy_after": 0.6961, "score_before": 0.2087,
        "score_after": 0.6961, "loss_before": 3.5, "loss_after": 1.01,
        "class_accuracies_before": {"cat": 0.1, "dog": 0.8, "eel": None},
        "class_accuracies_after": {"cat": 0.9, "dog": 0.6, "eel": None},
        "wall_seconds": 18.1, "cpu_seconds": 9.04, "peak_rss_bytes": 616 * 2**20, "peak_rss_scope": "window",
        "energy_joules": None, "energy_kind": "unavailable", "patch_bytes": 93896, "tensors_changed": 40,
        "tuned_parameters": 19120, "train_samples": 1000, "val_samples": 60, "test_samples": 1500,
        "group_by": None, "best_epoch": 2, "epochs": 2, "stopped": None, "status": "patched",
        "measure": "accuracy", "measured_on": "test", "val_use": "acceptance", "notes": [], "choice": choice,
        "acceptance": compare(labels, (labels + 1) % 3, labels).to_json(),
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
    limits = {"distance": INPUT_DISTANCE, "z_score": Z_SCORE}
    return Adaptation(result(**changed), "base.pth", "user.safetensors", 1_467_752, strips, limits)


def test_an_adaptations_page_says_what_its_result_says():
    given = adaptation()
    page, r = checked(adaptation_page(given)), given.result
    for words in (
        percent(r["accuracy_before"]), percent(r["accuracy_after"]), "+48.7", "19,120", seconds(9.04),
        size(93896), percent(93896 / 1_467_752), "60\u00a0samples", "energy", "unavailable", "4b64b739",
        "Drift at the input level", "tbft patch apply user.safetensors --weights base.pth --out tuned.",
        "tbft patch revert user.safetensors", nonbreaking(r["choice"]["explanation"]),
    ):  # fmt: skip
        assert words in page.text
    for reason in r["choice"]["diagnosis"]["reasons"]:
        assert nonbreaking(reason[1:]) in page.text
    for option in r["choice"]["costs"]:
        assert option in page.text
    charts = page.charts()
    assert any(">+80<" in svg and ">\u221220<" in svg for svg in charts)  # of each class
    assert any(f">{points(r['acceptance']['low'])}<" in svg for svg in charts)
    assert any(">0.37<" in svg and ">0.9<" in svg for svg in charts)  # distances by block
    assert sum("png" in image["src"][:20] for image in page.named("img")) == 6


def test_the_accuracy_on_the_source_is_shown_beside_before_and_after():
    source = result()["choice"]["diagnosis"]["evidence"]["source_accuracy"]
    assert f"on the source {percent(source)}" in checked(adaptation_page(adaptation())).text
    assert "on the source" not in checked(adaptation_page(adaptation(choice=None))).text


def test_a_page_names_no_folder_of_the_machine():
    given = replace(
        adaptation(data="/home/me/samples/set.npz + fog:3"),
        weights="/home/me/base.pth",
        patch_path="C:\\me\\user.safetensors",
    )
    page = checked(adaptation_page(given))
    assert "tbft patch apply user.safetensors --weights base.pth" in page.text
    assert "set.npz + fog:3" in page.text
    assert "/home" not in page.text and "\\me" not in page.text


def test_the_chosen_option_is_named_as_the_arm_that_was_tuned():
    r = result()
    choice = {**r["choice"], "option": "head", "arm": "fc"}
    text = checked(adaptation_page(adaptation(choice=choice, arm="fc"))).text
    assert "fc (the option head)" in text and "chosen; here the arm fc" in text


def test_the_same_values_give_the_same_bytes():
    assert adaptation_page(adaptation()) == adaptation_page(adaptation())


UNTRAINED = {"block": None, "history": [], "best_epoch": None}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"choice": None}, "The level was set by the user: input"),
        ({"choice": None, "level": None, "arm": "layer2+fc", "block": None}, "The arm was set by the user"),
        ({"choice": None, "acceptance": None, "val_samples": 0}, "--val holds some out"),
        ({"choice": None, "acceptance": None, "val_use": "epoch"}, "chose the epoch"),
        ({**UNTRAINED, "arm": "none", "acceptance": None, "status": "unchanged"}, "Nothing was changed"),
        ({**UNTRAINED, "arm": "adabn"}, "adapting only BatchNorm statistics"),
        ({"arm": "full", "block": None}, "the whole network"),
        ({"arm": "fc", "block": "rear"}, "tuning one layer: fc"),
        ({"stopped": "interrupt"}, "Training was interrupted; what had been learned by then was kept"),
        ({"stopped": "budget"}, "The budget was spent before training ended"),
        ({"measured_on": None, "accuracy_before": None, "accuracy_after": None, "score_before": None,
          "score_after": None, "loss_before": None, "loss_after": None, "class_accuracies_before": {},
          "class_accuracies_after": {}},
         "nothing was held out to measure"),
        ({f"class_accuracies_{when}": {"a": None} for when in ("before", "after")}, "No class has samples"),
        ({"energy_joules": 12.34, "energy_kind": "measured", "energy_source": "rapl package-0",
          "energy_scope": "package", "energy_net_joules": 8.0}, "12.3\u00a0J, measured, by rapl package-0"),
        ({"energy_joules": 5.0, "energy_kind": "estimated", "energy_source": "profile pi-5",
          "energy_relative_error": 0.2}, "estimated, by profile pi-5, ± 20\u00a0%"),
    ],
)  # fmt: skip
def test_pages_of_other_outcomes(changed, words, undrawn):
    assert words in checked(adaptation_page(adaptation(**changed))).text


def test_a_rejected_plan_is_reported_as_such(undrawn):
    labels = striped().labels
    judged = compare(labels, labels, (labels + 1) % 3).to_json()
    page = checked(
        adaptation_page(replace(adaptation(acceptance=judged, status="rejected"), patch_path=None))
    )
    assert "Tried and undone" in page.text and "60 regressed" in page.text
    assert "nothing to apply or undo" in page.text and "tbft patch apply" not in page.text


def test_the_page_of_a_model_from_a_factory_gives_commands_in_python(undrawn):
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
    assert r"\x1b[2J\x07" in page.text and r"\u202egnp" in page.text
    for text in (page.text, *page.charts()):
        assert not any(letter in text for letter in "\x1b\x07\u202e\ud800")
    assert """--weights '$(x)'""" in page.text and "'a b'\"'\"'.safetensors'" in page.text


def test_a_loss_that_is_not_a_number_is_left_out():
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
        "import sys; import tbft.report; "
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
    assert "The level was set by the user" in page.text and "contrast:5" in page.text
    assert "tbft patch apply user.safetensors --weights base.pt" in page.text


def test_a_page_that_cannot_be_written_is_refused_before_the_work(place, capsys):  # noqa: F811
    assert main([*ADAPT, "--report", "user.pdf"]) == 2
    assert "written as .html" in capsys.readouterr().err
    assert main([*ADAPT, "--report", "nowhere/user.html"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
