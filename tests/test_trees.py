"""What folders mean: classes, parts, domains, severities; whatever is not certain is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbft.data.levels import Hints
from tbft.data.trees import interpret, ordered_classes, parse_layout
from tbft.errors import DataError


def files(*levels, count=2):
    """Every combination of these folders, with the same files in each."""
    return [(*folders, f"{i}.png") for folders in itertools.product(*levels) for i in range(count)]


def tree(paths, name="set", **hints):
    return interpret(sorted(paths), Hints(**hints), name)


PETS = ("cat", "dog")


def test_class_folders_and_a_folder_around_them():
    assert set(tree(files(PETS)).classes) == set(PETS)
    found = tree(files(["wrapper"], PETS))
    assert set(found.classes) == set(PETS)
    assert found.attributes == {}
    assert tree(files(["cat"])).classes == ("cat", "cat")
    assert set(tree(files(PETS, ["images"])).classes) == set(PETS)


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("train", "val", "test"), {"train", "val", "test"}),
        (("Training", "Validation", "testing"), {"train", "val", "test"}),
        (("train2017", "valid"), {"train", "val"}),
        (("seg_train", "seg_test"), {"train", "test"}),
        (("train",), {"train"}),
    ],
)
def test_folders_named_after_parts_are_an_attribute(folders, parts):
    found = tree(files(folders, PETS))
    assert set(found.classes) == set(PETS)
    assert set(found.attributes["part"].tolist()) == parts
    inside = tree(files(PETS, folders))
    assert set(inside.classes) == set(PETS)
    assert set(inside.attributes["part"].tolist()) == parts


def test_a_part_can_be_asked_for_as_its_folder_is_called():
    found = tree(files(["train", "valid"], PETS), where={"part": {"valid"}})
    assert "valid" in found.attributes["part"].tolist()


def test_a_part_inside_a_folder_of_its_own_name():
    paths = [(part, part, *rest) for part in ("seg_train", "seg_test") for rest in files(PETS)]
    found = tree(paths)
    assert set(found.classes) == set(PETS)
    assert set(found.attributes) == {"part"}


def test_parts_of_domains():
    found = tree(files(["amazon", "dslr"], ["train", "test"], PETS))
    assert set(found.attributes) == {"domain", "part"}
    assert set(found.classes) == set(PETS)


def test_known_domains_and_recordings_are_attributes():
    assert set(tree(files(["photo", "sketch"], PETS)).attributes["domain"].tolist()) == {"photo", "sketch"}
    assert set(tree(files(["Real World", "Clipart"], PETS)).classes) == set(PETS)
    found = tree(files(["subject_1", "subject_2"], ["walk", "sit"]))
    assert set(found.classes) == {"walk", "sit"}
    assert set(found.attributes["subject"].tolist()) == {"subject_1", "subject_2"}


@pytest.mark.parametrize(
    "inner",
    [("day1", "day2"), ("left", "right"), ("2024-01-05", "2024-01-06"), ("indoor", "outdoor"), ("1", "2")],
)
def test_folders_inside_classes_are_never_taken_for_the_classes(inner):
    with pytest.raises(DataError, match=r"not certain which folders are the classes, cat, dog \(2\) or"):
        tree(files(PETS, inner))
    known = tree(files(PETS, inner), classes=("cat", "dog", "owl"))
    assert set(known.classes) == set(PETS)
    key = next(iter(known.attributes))
    assert set(known.attributes[key].tolist()) == set(inner)


def test_the_remedy_in_a_refusal_works():
    paths = files(PETS, ["day1", "day2"])
    with pytest.raises(DataError) as raised:
        tree(paths)
    layouts = str(raised.value).split("--layout ")[1].split(" (")[0].replace("'", "").split(" or ")
    assert layouts == ["class/day", "domain/class"]
    assert set(tree(paths, layout=layouts[0]).classes) == set(PETS)
    assert set(tree(paths, layout=layouts[1]).classes) == {"day1", "day2"}


@given(flipped=st.booleans())
def test_a_value_that_is_asked_for_says_which_level_has_it(flipped):
    levels = [PETS, ("room_one", "room_two")]
    found = tree(files(*(reversed(levels) if flipped else levels)), where={"room": {"room_two"}})
    assert set(found.classes) == set(PETS)
    assert set(found.attributes["room"].tolist()) == {"room_one", "room_two"}


@pytest.mark.parametrize("above", [(), ("set",), ("blur", "noise")])
def test_corruptions_at_severities_keep_copies_of_a_photo_together(above):
    paths = [
        (*([top] if top else []), corruption, str(severity), *rest)
        for top, corruption in zip(above or [""], ["defocus_blur", "shot_noise"], strict=False)
        for severity in (1, 3, 5)
        for rest in files(PETS, count=3)
    ]
    found = tree(paths)
    assert set(found.classes) == set(PETS)
    assert set(found.attributes["severity"].tolist()) == {1, 3, 5}
    assert found.attributes["severity"].dtype.kind == "i"
    assert len(set(found.attributes["picture"].tolist())) == 6
    assert "corruption" in found.attributes


def test_numbered_subjects_are_not_severities():
    with pytest.raises(DataError, match="not certain"):
        tree(files(["1", "2", "3"], PETS))
    with pytest.raises(DataError, match="not certain"):
        tree(files(["lab", "home"], ["1", "2"], PETS))


def test_the_severities_of_one_corruption():
    found = tree(files(["1", "5"], PETS), root="fog")
    assert set(found.attributes) == {"severity", "picture"}


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (files(["a", "b"], ["c", "d"], ["e", "f"]), "3 folders deep, as a/c/e/0.png.*--layout domain/"),
        (
            files(PETS) + files(["cat"], ["old"]),
            "different depths: 4 pictures as cat/0.png, 2 pictures as cat/old",
        ),
        ([("0.png",), *files(PETS)], "1 picture as 0.png.*in no class folder"),
        ([("0.png",), ("1.png",)], "2 pictures and no class folders.*labels.csv"),
        (files(["train", "test"]), "test, train name parts and no classes"),
        (files(["images", "masks"]), "images, masks name kinds of files"),
        (files(["images"], ["train", "val"]), "images name kinds of files"),
        (
            [*files(["train"], PETS), ("test", "0.png")],
            "give the folder of one part alone, such as set/train",
        ),
    ],
)
def test_what_is_not_certain_is_refused_with_what_was_seen(paths, message):
    with pytest.raises(DataError, match=f"set: .*{message}"):
        tree(paths)


def test_classes_that_happen_to_be_called_like_parts():
    assert set(tree(files(["train", "test"]), classes=("train", "test")).classes) == {"train", "test"}
    assert set(tree(files(["train", "bus"])).classes) == {"train", "bus"}


def test_layouts():
    paths = files(["a", "b"], ["x", "y"], PETS)
    found = tree(paths, layout="site/*/class")
    assert set(found.attributes) == {"site"}
    assert set(found.classes) == set(PETS)
    assert set(tree(files(["around"], ["a", "b"], PETS), layout="site/class").classes) == set(PETS)
    mixed = files(PETS) + files(["cat"], ["old"])
    assert set(tree(mixed, layout="class/**").classes) == set(PETS)
    with pytest.raises(DataError, match=r"does not fit 4 pictures, such as cat/0.png"):
        tree(mixed, layout="class/folder")


@pytest.mark.parametrize("text", ["", "domain", "class/class", "a/a/class", "**/class", "a//class"])
def test_layouts_that_say_nothing_are_refused(text):
    with pytest.raises(DataError, match="class exactly once"):
        parse_layout(text)


LEVELS = st.lists(st.text("abcdefg", min_size=3, max_size=4), min_size=2, max_size=3, unique=True)


@given(levels=st.lists(LEVELS, min_size=2, max_size=4), data=st.data())
def test_a_layout_reads_any_tree_as_it_says(levels, data):
    at = data.draw(st.integers(0, len(levels) - 1))
    roles = ["class" if i == at else f"level{i}" for i in range(len(levels))]
    paths = sorted(files(*levels))
    found = tree(paths, layout="/".join(roles))
    assert list(found.classes) == [path[at] for path in paths]
    for i, role in enumerate(roles):
        if i != at:
            assert found.attributes[role].tolist() == [path[i] for path in paths]


@given(st.lists(LEVELS, min_size=1, max_size=3))
def test_whatever_is_read_without_a_layout_has_every_picture_once(levels):
    paths = sorted(files(*levels))
    try:
        found = tree(paths)
    except DataError:
        return
    assert len(found.classes) == len(paths)
    assert all(c in path for c, path in zip(found.classes, paths, strict=True))


@pytest.mark.parametrize(
    ("folders", "order", "said"),
    [
        ([str(i) for i in range(12)], [str(i) for i in range(12)], "not in alphabetical: 0, 1, 2"),
        ([str(i) for i in range(9)], [str(i) for i in range(9)], ""),
        (
            [f"class{i}" for i in range(12)],
            [f"class{i}" for i in range(12)],
            "not in alphabetical: class0, class1",
        ),
        (("n0144", "n0143"), ["n0143", "n0144"], ""),
        (("0", "1", "3"), ["0", "1", "2", "3"], "3 has the label 3; classes without pictures: 2"),
        ([f"{i:02}" for i in range(1, 12)], [f"{i:02}" for i in range(1, 12)], "11 has the label 10"),
        (("1", "3"), ["0", "1", "2", "3"], "--labels-from 1 if they are numbered from 1"),
        (("007", "1000", "9"), ["007", "9", "1000"], "not in alphabetical: 007, 9, 1000"),
        (("b", "10", "9"), ["10", "9", "b"], ""),
        (("1", "01", "2"), ["01", "1", "2"], ""),
    ],
)
def test_folders_named_by_numbers_are_in_numeric_order(folders, order, said):
    names, notes = ordered_classes(set(folders))
    assert list(names) == order
    assert said in " ".join(notes)
    assert bool(said) == bool(notes)
