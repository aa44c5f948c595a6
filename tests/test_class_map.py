"""Class maps: what is registered is sound and as published; what a user writes is read, or refused."""

from __future__ import annotations

import json
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

from tbft.cli import main
from tbft.data import InputSpec, make_samples, read
from tbft.data.class_map import ClassMapFamily, register_class_map
from tbft.errors import DataError
from tbft.models.presets import LIVING17_CLASSES, TINY17_CLASSES
from tbft.scenarios import ClassMap, apply_class_map, class_maps, find_class_map

SPECS = [spec for family in class_maps() for spec in family.specs]
#: Superclasses, and leaves of each over both domains: table 1 of Santurkar et al. (2020).
BREEDS = {"entity13": (13, 20), "entity30": (30, 8), "living17": (17, 4), "nonliving26": (26, 4)}


def by_domain(class_map: ClassMap) -> list[dict[str, list[str]]]:
    """The leaves of each superclass, source and target."""
    found = [{"source": [], "target": []} for _ in class_map.class_names]
    for leaf, (label, domain) in class_map.leaves.items():
        found[label][domain].append(leaf)
    return found


# --- what is registered ----------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_every_registered_map_keeps_its_promises(spec):
    found = find_class_map(spec)
    assert found.name == spec
    assert len(set(found.class_names)) == len(found.class_names)
    assert all(sides["source"] for sides in by_domain(found))
    assert not found.folders("source") & found.folders("target")
    assert found.folders("source") | found.folders("target") == found.folders() == set(found.leaves)
    assert set(found.leaf_names) <= set(found.leaves)
    assert found.summary
    assert found.source


@pytest.mark.parametrize("name", BREEDS)
@pytest.mark.parametrize("split", ["rand", "good", "bad", "none"])
def test_breeds_maps_are_balanced_classes_of_imagenet(name, split):
    found = find_class_map(f"{name}:{split}")
    superclasses, leaves = BREEDS[name]
    assert len(found.class_names) == superclasses
    expected = (leaves, 0) if split == "none" else (leaves // 2, leaves // 2)
    for sides in by_domain(found):
        assert (len(sides["source"]), len(sides["target"])) == expected
    assert all(re.fullmatch(r"n\d{8}", leaf) for leaf in found.leaves)
    assert all(found.leaf_names[leaf] for leaf in found.leaves)


@pytest.mark.parametrize("name", BREEDS)
def test_the_plain_name_is_the_random_split_and_none_has_its_leaves(name):
    plain, rand, none = (find_class_map(spec) for spec in (name, f"{name}:rand", f"{name}:none"))
    assert plain == rand
    assert plain.class_names == none.class_names
    label = {leaf: index for leaf, (index, _) in none.leaves.items()}
    assert label == {leaf: index for leaf, (index, _) in rand.leaves.items()}


def test_living17_has_the_classes_of_its_preset():
    assert find_class_map("living17").class_names == LIVING17_CLASSES


@pytest.mark.data
@pytest.mark.parametrize("split", ["rand", "good", "bad", "none"])
def test_living17_is_as_published(data_dir, split):
    published = json.loads((data_dir / "living17" / "splits.json").read_text())
    expected = published["None" if split == "none" else split]
    found = find_class_map(f"living17:{split}")
    assert list(found.class_names) == [expected["label_map"][str(i)] for i in range(17)]
    for domain in ("source", "target"):
        groups = expected[domain] or [[]] * 17
        assert [sides[domain] for sides in by_domain(found)] == [[leaf[1] for leaf in g] for g in groups]
        assert all(found.leaf_names[wnid] == words for group in groups for _, wnid, words in group)


@pytest.mark.data
def test_labels_and_domains_of_real_photos(data_dir):
    with np.load(data_dir / "living17" / "ilsvrc_val_acuity.npz") as photos:
        leaves, own = np.unique(photos["wnids"], return_inverse=True)
        mapped = apply_class_map(
            make_samples(photos["images"][:, :1, :1], own, leaves), find_class_map("living17")
        )
        np.testing.assert_array_equal(mapped.labels, photos["labels"])
        np.testing.assert_array_equal(mapped.attributes["domain"], photos["domain"])
        np.testing.assert_array_equal(mapped.attributes["leaf"], photos["wnids"])


def test_further_maps_can_be_registered_once(monkeypatch):
    monkeypatch.setattr("tbft.data.class_map._FAMILIES", {})
    pets = ClassMap("pets", ("cat",), {"tabby": (0, "source")})
    family = register_class_map(ClassMapFamily("pets", (), lambda split: pets, "pets", ""))
    assert (family.usage, family.specs) == ("pets", ("pets",))
    assert find_class_map("pets") is pets
    with pytest.raises(DataError, match="unknown split 'rand'"):
        find_class_map("pets:rand")
    with pytest.raises(ValueError, match="registered already"):
        register_class_map(family)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("livng17", "unknown class map 'livng17': did you mean 'living17'.*or the path of a .json file"),
        ("living:rand", "did you mean 'living17'"),
        ("living17:random", "'living17:random': unknown split 'random': did you mean 'rand'"),
        ("living17:", "unknown split ''"),
    ],
)
def test_unknown_names_are_refused(spec, message):
    with pytest.raises(DataError, match=message):
        find_class_map(spec)


# --- files -----------------------------------------------------------------------------------

TWO_LEVELS = {
    "cat": {"source": ["tabby"], "target": ["lion"]},
    "dog": {"source": ["pug"], "target": ["wolf"]},
}
NUMBERED = {
    "superclasses": [
        {"label": 1, "name": "dog", "source": [{"wnid": "pug"}], "target": ["wolf"]},
        {"label": 0, "name": "cat", "source": [{"wnid": "tabby", "name": "tabby cat"}], "target": ["lion"]},
    ]
}
PETS = {"tabby": (0, "source"), "lion": (0, "target"), "pug": (1, "source"), "wolf": (1, "target")}


@pytest.fixture
def written(tmp_path):
    """Writes a JSON file, from an object or from text."""

    def write(record):
        path = tmp_path / "map.json"
        path.write_text(record if isinstance(record, str) else json.dumps(record))
        return path

    return write


@pytest.mark.parametrize("kind", [str, lambda path: path])
@pytest.mark.parametrize(("record", "words"), [(TWO_LEVELS, {}), (NUMBERED, {"tabby": "tabby cat"})])
def test_files_with_domains(written, record, words, kind):
    path = written(record)
    assert find_class_map(kind(path)) == ClassMap(str(path), ("cat", "dog"), PETS, words)


def test_a_file_without_domains_is_all_source(written):
    found = find_class_map(written({"cat": ["tabby", "lion"], "dog": ["pug"]}))
    assert found.leaves == {"tabby": (0, "source"), "lion": (0, "source"), "pug": (1, "source")}
    assert found.folders("target") == frozenset()


@pytest.mark.data
def test_the_file_of_tiny17(data_dir):
    found = find_class_map(data_dir / "tiny17" / "splits.json")
    assert found.class_names == TINY17_CLASSES
    assert {len(side) for sides in by_domain(found) for side in sides.values()} == {2}
    assert found.leaf_names["n02085620"] == "Chihuahua"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "cannot be read as a class map: .*; expected JSON: "),
        ("[" * 100_000, "cannot be read as a class map"),
        ('{"cat": ["a"], "cat": ["b"]}', "'cat' appears twice"),
        ([], "holds no class map; expected"),
        ({}, "holds no class map; expected"),
        ({"cat": 3}, "superclass 'cat' is 3; expected a list of leaves, or source and target"),
        ({"cat": {"sorce": ["a"]}}, "'cat': unknown domain 'sorce': did you mean 'source'"),
        ({"cat": {"source": "a"}}, "'cat': source is \"a\"; expected a list of leaves"),
        ({"cat": [3]}, "'cat': a leaf is 3; expected a folder"),
        ({"cat": [""]}, 'a leaf is ""; expected a folder'),
        ({"cat": [{"name": "tabby"}]}, "a leaf is .*; expected a folder"),
        ({"cat": ["a"], "dog": []}, "superclass 'dog' has no leaf; name one or leave it out"),
        ({"cat": {"source": [], "target": []}}, "superclass 'cat' has no leaf"),
        ({"cat": ["a"], "dog": ["a"]}, r"'a' appears twice, in 'cat' \(source\) and in 'dog' \(source\)"),
        ({"cat": {"source": ["a"], "target": ["a"]}}, r"'cat' \(source\) and in 'cat' \(target\)"),
        ({"superclasses": []}, "labels have to be 0, 1, 2"),
        ({"superclasses": ["cat"]}, 'needs a label .* not "cat"'),
        ({"superclasses": [{"label": True, "name": "cat"}]}, "needs a label"),
        ({"superclasses": [{"label": 0, "name": "cat", "other": []}]}, "unknown domain 'other'"),
        (
            {"superclasses": [{"label": 0, "name": n, "source": [n]} for n in ("cat", "dog")]},
            r"labels have to be 0, 1, 2, \.\.\., each once, not \[0, 0\]",
        ),
        (
            {"superclasses": [{"label": i, "name": "cat", "source": [str(i)]} for i in (0, 1)]},
            "two superclasses are named 'cat'",
        ),
    ],
)
def test_files_that_are_not_class_maps_are_refused(written, record, message):
    path = written(record)
    with pytest.raises(DataError, match=message) as refused:
        find_class_map(path)
    assert str(path) in str(refused.value)


def test_places_without_a_file_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read"):
        find_class_map(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="cannot be read"):
        find_class_map(tmp_path)
    with pytest.raises(DataError, match="unknown class map"):
        find_class_map(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        ((1, "source"), "'a' has label 1"),
        ((-1, "source"), "label -1"),
        ((0, "goal"), "unknown domain 'goal'"),
    ],
)
def test_maps_made_by_hand_are_checked(leaf, message):
    with pytest.raises(DataError, match=f"by hand: .*{message}"):
        ClassMap("by hand", ("cat",), {"a": leaf})


# --- samples ---------------------------------------------------------------------------------

LEAVES = ("bat", "lion", "pug", "tabby", "wolf")
PHOTOS = make_samples(
    np.arange(10, dtype=np.uint8)[:, None, None, None],
    np.arange(10) % 5,
    LEAVES,
    {"place": np.arange(10) // 5},
    "photos",
)
MAP = ClassMap("pets", ("cat", "dog"), PETS)


def test_leaves_become_superclasses_and_the_rest_is_left_out():
    mapped = apply_class_map(PHOTOS, MAP)
    assert mapped.class_names == ("cat", "dog")
    assert mapped.ids.tolist() == [1, 2, 3, 4, 6, 7, 8, 9]
    assert mapped.inputs[:, 0, 0, 0].tolist() == mapped.ids.tolist()
    assert mapped.labels.dtype == np.int64
    assert mapped.labels.tolist() == [0, 1, 0, 1] * 2
    assert mapped.attributes["leaf"].tolist() == ["lion", "pug", "tabby", "wolf"] * 2
    assert mapped.attributes["domain"].tolist() == ["target", "source", "source", "target"] * 2
    assert mapped.attributes["place"].tolist() == [0] * 4 + [1] * 4
    assert len(mapped.where({"domain": "target"})) == 4
    assert mapped.name == "photos as pets"
    assert PHOTOS.class_names == LEAVES
    assert set(PHOTOS.attributes) == {"place"}


def test_a_map_fits_any_order_and_subset():
    whole = apply_class_map(PHOTOS, MAP)
    part = apply_class_map(PHOTOS.subset([8, 5, 1]), MAP)
    assert part.ids.tolist() == [8, 1]
    assert part.labels.tolist() == [0, 0]
    assert part.attributes["leaf"].tolist() == ["tabby", "lion"]
    assert whole.where({"leaf": "lion"}).ids.tolist() == [1, 6]


def test_nothing_is_copied_where_all_samples_stay():
    mapped = apply_class_map(PHOTOS, ClassMap("all", ("animal",), dict.fromkeys(LEAVES, (0, "source"))))
    assert mapped.inputs is PHOTOS.inputs
    assert mapped.labels.tolist() == [0] * 10


def test_a_set_without_any_leaf_of_the_map_is_refused():
    bats = PHOTOS.subset([0, 5])
    message = (
        "photos: none of its classes is a leaf of the class map pets: it has bat, the map has tabby, lion"
    )
    with pytest.raises(DataError, match=message):
        apply_class_map(bats, MAP)


# --- reading with a map ------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """Two pictures of each leaf, and a folder that the map does not know, as a folder and as a tar."""
    for i, leaf in enumerate([*LEAVES, "unknown-leaf"]):
        (tmp_path / "set" / leaf).mkdir(parents=True)
        for j in range(2):
            Image.fromarray(np.full((8, 8, 3), 10 * i + j, np.uint8)).save(
                tmp_path / "set" / leaf / f"{j}.png"
            )
    (tmp_path / "set" / "unknown-leaf" / "0.png").write_bytes(b"never opened")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(tmp_path / "set", "set")
    return tmp_path


@pytest.mark.parametrize("form", ["set", "set.tar"])
def test_only_the_folders_of_a_map_are_read_and_ids_do_not_depend_on_it(tree, form):
    whole = read(tree / form, class_map=MAP)
    assert whole.class_names == MAP.class_names
    assert set(whole.attributes["leaf"].tolist()) == set(MAP.leaves)
    for domain in ("source", "target"):
        part = read(tree / form, where={"domain": domain}, class_map=MAP)
        at = whole.attributes["domain"] == domain
        np.testing.assert_array_equal(part.inputs, whole.inputs[at])
        assert part.ids.tolist() == whole.ids[at].tolist()
        assert part.labels.tolist() == whole.labels[at].tolist()
    order = tuple(reversed(MAP.class_names))
    turned = read(tree / form, InputSpec(class_names=order), class_map=MAP)
    assert [order[i] for i in turned.labels] == [MAP.class_names[i] for i in whole.labels]
    with pytest.raises(DataError, match="no such class: unknown class"):
        read(tree / form, InputSpec(class_names=("boat", "car")), class_map=MAP)
    with pytest.raises(DataError, match="none of those wanted"):
        read(tree / form, class_map=ClassMap("other", ("x",), {"y": (0, "source")}))
    with pytest.raises(DataError, match="no sample has domain=taget"):
        read(tree / form, where={"domain": "taget"}, class_map=MAP)


def test_commands_take_a_map(tree, capsys):
    listed = {}
    for leaf, (label, domain) in MAP.leaves.items():
        listed.setdefault(MAP.class_names[label], {}).setdefault(domain, []).append(leaf)
    (tree / "map.json").write_text(json.dumps(listed))
    arguments = ["data", "show", str(tree / "set"), "--classes", str(tree / "map.json")]
    assert main([*arguments, "--where", "domain=target", "--json", "--out", str(tree / "sheet.png")]) == 0
    assert set(json.loads(capsys.readouterr().out)["class_counts"]) == set(MAP.class_names)
    assert main(["data", "show", "living17:good"]) == 0
    assert "salamander" in capsys.readouterr().out
    assert main(["data", "show", "living17", "--out", str(tree / "sheet.png")]) == 2
    assert "give a set of its leaf classes with --data" in capsys.readouterr().err
    assert main([*arguments[:3], "--classes", "livin17"]) == 2
    assert "did you mean 'living17'" in capsys.readouterr().err


@pytest.mark.data
def test_the_real_tiny17_is_read_with_its_map(data_dir, tmp_path, capsys):
    folder = data_dir / "tiny17"
    spec = InputSpec(class_names=TINY17_CLASSES, resolution=64, channels=3, mixed=True)
    target = read(folder / "target.tar", spec, class_map=find_class_map(folder / "splits.json"))
    assert set(target.class_counts().values()) == {500}
    assert set(target.attributes["domain"].tolist()) == {"target"}
