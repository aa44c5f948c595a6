"""Tables of labels beside pictures, lists of files, and tables of numbers."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tbft
from tbft.data.parts import as_parts
from tbft.data.tables import column_array, parse_table
from tbft.errors import DataError

NAMES = [f"{i:03}.png" for i in range(6)]
WORDS = ["dog", "cat"] * 3


def save_pictures(folder: Path, names=NAMES) -> Path:
    for i, name in enumerate(names):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(place)
    return folder


def rows(*columns, separator=",", header=None) -> str:
    lines = [separator.join(map(str, row)) for row in zip(*columns, strict=True)]
    return "\n".join([separator.join(header), *lines] if header else lines) + "\n"


def gray(samples) -> list[int]:
    """Which of the pictures each sample is."""
    return (samples.inputs[:, 0, 0, 0] // 40).tolist()


TABLES = {
    "comma": rows(NAMES, WORDS, header=("file", "label")),
    "semicolon": rows(NAMES, WORDS, header=("Filename", "Class"), separator=";"),
    "tab": rows(NAMES, WORDS, header=("image", "species"), separator="\t"),
    "byte order mark and Windows lines": "\ufeff"
    + rows(NAMES, WORDS, header=("file", "label")).replace("\n", "\r\n"),
    "quotes": rows([f'"{n}"' for n in NAMES], [f'"{w}"' for w in WORDS], header=("file", "label")),
    "unusual name of the label": rows(NAMES, WORDS, header=("file", "what is it")),
    "without names": rows(NAMES, WORDS),
    "a list": rows(NAMES, WORDS, separator=" "),
    "without suffixes": rows([n[:-4] for n in NAMES], WORDS, header=("id", "label")),
    "paths from elsewhere": rows([f"/data/mine/{n}" for n in NAMES], WORDS, header=("path", "label")),
    "Windows paths": rows([f".\\{n}" for n in NAMES], WORDS, header=("path", "label")),
    "one-hot": rows(NAMES, [0, 1] * 3, ["1.0", "0.0"] * 3, header=("image", "cat", "dog")),
    "upside down": rows(NAMES[::-1], WORDS[::-1], header=("file", "label")),
}


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("given", ["the folder", "the table", "a zip"])
def test_labels_in_a_table_beside_pictures(tmp_path, form, given):
    folder = save_pictures(tmp_path / "set")
    table = folder / ("labels.txt" if form == "a list" else "labels.csv")
    table.write_text(TABLES[form], encoding="utf-8")
    source = {"the folder": folder, "the table": table, "a zip": tmp_path / "set.zip"}[given]
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    samples = tbft.read(source)
    assert samples.class_names == ("cat", "dog")
    assert [samples.class_names[y] for y in samples.labels] == [WORDS[i] for i in gray(samples)]
    assert sorted(gray(samples)) == list(range(6))


def test_further_columns_become_attributes(tmp_path):
    save_pictures(tmp_path / "images")
    table = rows(
        NAMES, WORDS, ["007", "008", "007"] * 2, [1.5, 2, 3] * 2, header=("file", "label", "subject", "age")
    )
    (tmp_path / "labels.csv").write_text(table)
    samples = tbft.read(tmp_path, where={"subject": "007"})
    assert gray(samples) == [0, 2, 3, 5]
    assert samples.attributes["age"].tolist() == [1.5, 3, 1.5, 3]
    assert samples.ids.tolist() == [0, 2, 3, 5]


def test_words_are_matched_to_the_models_classes_and_numbers_to_a_file_of_names(tmp_path):
    save_pictures(tmp_path)
    (tmp_path / "train.txt").write_text(rows(NAMES, [0, 1, 2] * 2, separator=" "))
    (tmp_path / "classes.txt").write_text("1 emu\n2 fox\n3 cat\n")
    assert tbft.read(tmp_path).class_names == ("emu", "fox", "cat")
    samples = tbft.read(tmp_path, tbft.InputSpec(class_names=("cat", "emu", "fox")))
    assert samples.labels.tolist() == [1, 2, 0] * 2
    (tmp_path / "train.txt").write_text(rows(NAMES, [1, 2, 3] * 2, separator=" "))
    with pytest.raises(DataError, match="numbered from 1"):
        tbft.read(tmp_path)
    samples = tbft.read(tmp_path, tbft.InputSpec(labels_from=1))
    assert [samples.class_names[y] for y in samples.labels[:3]] == ["emu", "fox", "cat"]


def test_what_a_table_and_a_folder_do_not_share_is_named(tmp_path):
    save_pictures(tmp_path)
    (tmp_path / "labels.csv").write_text(
        rows(["no.png", *NAMES[:4]], ["cat", *WORDS[:4]], header=("file", "label"))
    )
    with pytest.raises(
        DataError, match=r"names 1 picture not found in .*: no\.png \(line 2\).*--skip-damaged"
    ):
        tbft.read(tmp_path)
    samples = tbft.read(tmp_path, tbft.InputSpec(skip_damaged=True))
    assert len(samples) == 4
    assert any("no.png" in note and "left out" in note for note in samples.notes)
    assert any(
        "2 pictures without a label in labels.csv left out: 004.png, 005.png" in n for n in samples.notes
    )


def test_a_picture_of_another_folder_is_never_taken_for_a_missing_one(tmp_path):
    save_pictures(tmp_path / "dog", ["1.png", "2.png"])
    (tmp_path / "labels.csv").write_text("file,label\ndog/2.png,a\ncat/1.png,b\n")
    with pytest.raises(DataError, match=r"not found in .*cat/1\.png \(line 3\)"):
        tbft.read(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            rows(NAMES, WORDS, WORDS, header=("file", "what", "kind")),
            r"which column the label is \(what, kind\).*--keys",
        ),
        (
            rows(NAMES, WORDS, WORDS, header=("file", "class", "label")),
            "may be class or label; say which: --keys",
        ),
        (rows(NAMES, ["dog", ""] * 3, header=("file", "label")), "3 of 6 labels are missing"),
        (
            rows([*NAMES, NAMES[0]], [*WORDS, "cat"], header=("file", "label")),
            "one picture two labels, dog and cat",
        ),
        ("file,label\n000.png,cat\n001.png,dog,x\n", "line 3 has 3 cells, there are 2 columns"),
        (rows(NAMES, [0.5, 1] * 3, header=("file", "label")), "not whole numbers"),
        ("", "the table is empty"),
        ("file,label\n", "no samples in it"),
    ],
)
def test_tables_that_do_not_say_what_pictures_show_are_refused(tmp_path, table, message):
    save_pictures(tmp_path)
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        tbft.read(tmp_path / "labels.csv")


def test_keys_name_the_column_of_labels(tmp_path):
    save_pictures(tmp_path)
    (tmp_path / "a.csv").write_text(rows(NAMES, WORDS, WORDS[::-1], header=("file", "what", "kind")))
    assert tbft.read(tmp_path, tbft.InputSpec(keys={"labels": "kind"})).labels.tolist() == [0, 1] * 3
    with pytest.raises(DataError, match="unknown column 'kin': did you mean 'kind'"):
        tbft.read(tmp_path, tbft.InputSpec(keys={"labels": "kin"}))


def test_class_folders_come_before_several_lists_and_tables_without_labels(tmp_path):
    save_pictures(tmp_path, [f"{w}/{n}" for w, n in zip(WORDS, NAMES, strict=True)])
    (tmp_path / "train.txt").write_text("dog/000.png\n")
    (tmp_path / "about.csv").write_text(rows(NAMES, range(6), range(6), header=("file", "age", "length")))
    samples = tbft.read(tmp_path)
    assert samples.class_counts() == {"cat": 3, "dog": 3}
    assert any("about.csv gives age, length" in note for note in samples.notes)


def test_two_tables_of_a_flat_folder_are_refused(tmp_path):
    save_pictures(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(rows(NAMES, WORDS, header=("file", "label")))
    with pytest.raises(
        DataError, match=r"several tables name its pictures: a\.csv, b\.csv; give one of them"
    ):
        tbft.read(tmp_path)


def test_a_table_of_numbers(tmp_path):
    path = tmp_path / "motion.csv"
    values = np.random.default_rng(0).normal(size=(6, 3)).round(3)
    path.write_text(
        rows(
            range(6), *values.T, ["s1", "s2"] * 3, WORDS, header=("", "ax", "ay", "az", "subject", "activity")
        )
    )
    samples = tbft.read(path)
    np.testing.assert_allclose(samples.inputs, values, rtol=1e-6)
    assert samples.class_names == ("cat", "dog")
    assert samples.attributes["subject"].tolist() == ["s1", "s2"] * 3
    assert any("ax, ay, az (3)" in note and "subject" in note for note in samples.notes)
    decimal_commas = path.read_text().replace(",", ";").replace(".", ",")
    path.write_text(decimal_commas)
    np.testing.assert_allclose(tbft.read(path).inputs, values, rtol=1e-6)


def test_numbered_pixels_are_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64))
    header = ("label", *(f"pixel{i}" for i in range(64)))
    (tmp_path / "digits.csv").write_text(rows([0, 1, 1, 0], *pixels.T, header=header))
    samples = tbft.read(tmp_path / "digits.csv")
    np.testing.assert_array_equal(samples.inputs[..., 0], pixels.reshape(4, 8, 8))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "ax,ay\n1,2\n3,4\n",
            r"column of labels has no usual name; say it: --keys labels=COLUMN \(ax, ay \(2\)\)",
        ),
        ("ax,class,label\n1,0,0\n", "may be class or label"),
        ("1,2,0\n3,4,1\n", r"first row has no names.*--keys labels=2 for the last one"),
        ("ax,label\n1,0\n,1\n", "line 3: a cell is empty"),
        ("ax,label\n" + "1,0\n" * 30 + "one,0\n", "line 32: 'one' is not a number"),
        ("subject,label\ns1,0\ns2,1\n", "no columns of numbers, and it names no pictures"),
        ("ax,label\nnan,0\n1,1\n", "NaN.*sample 0"),
    ],
)
def test_tables_of_numbers_that_are_not_clear_are_refused(tmp_path, table, message):
    (tmp_path / "a.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        tbft.read(tmp_path / "a.csv")
    if "first row" in message:
        samples = tbft.read(tmp_path / "a.csv", tbft.InputSpec(keys={"labels": "2"}))
        assert samples.inputs.tolist() == [[1, 2], [3, 4]]


def test_text_in_other_encodings():
    assert parse_table("file,label\na,é\n".encode("utf-16"), "t").head() == [["a", "é"]]
    with pytest.raises(DataError, match="line 2 is not UTF-8"):
        parse_table("file,label\na,é\n".encode("latin-1"), "t")
    with pytest.raises(DataError, match="not a table of text"):
        parse_table(b"\0\1\2,\0", "t")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [(["1", "2"], "i"), (["1", ""], "f"), (["1.5", "2"], "f"), (["01", "02"], "U"), (["", ""], "U")],
)
def test_columns_keep_what_ids_are(cells, kind):
    assert column_array(cells).dtype.kind == kind


PETS = [f"{w}/{n}" for n, w in zip(NAMES, WORDS, strict=True)]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (("file", "subject"), [[1, 1, 2, 2, 3, 3]]),
        (("file", "subject", "day"), [[1, 1, 2, 2, 3, 3], ["mon"] * 6]),
        (("file", "label", "subject"), [WORDS[::-1], [1, 1, 2, 2, 3, 3]]),
    ],
)
def test_a_table_beside_class_folders_gives_what_folders_do_not(tmp_path, header, columns):
    folder = save_pictures(tmp_path / "set", PETS)
    (folder / "people.csv").write_text(rows(PETS, *columns, header=header))
    samples = tbft.read(folder)
    of_file = dict(zip(samples.attributes["file"], samples.attributes["subject"], strict=True))
    assert of_file == dict(zip(PETS, [1, 1, 2, 2, 3, 3], strict=True))
    if "label" in header:  # whose labels count then
        assert samples.class_counts() == {"cat": 3, "dog": 3}
        return
    assert {f.split("/")[0] for f in samples.subset(samples.labels == 0).attributes["file"]} == {"cat"}
    assert any("people.csv gives subject" in note for note in samples.notes)
    assert len(tbft.read(folder, where={"subject": 2})) == 2
    parts = tbft.split_samples(samples, 2, 0, 2)
    assert parts.group_by == "subject"


def test_pictures_that_such_a_table_does_not_name_are_counted(tmp_path):
    folder = save_pictures(tmp_path / "set", PETS)
    (folder / "people.csv").write_text(rows(PETS[:4], ["ann", "bob"] * 2, [1, 2, 3, 4],
                                            header=("file", "person", "age")))  # fmt: skip
    samples = tbft.read(folder)
    assert sorted(samples.attributes["person"].tolist()) == ["", "", "ann", "ann", "bob", "bob"]
    assert np.isnan(samples.attributes["age"]).sum() == 2
    assert any("4 pictures; 2 are not in it" in note for note in samples.notes)


def test_a_test_set_in_another_unit_is_refused():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3, 16)), np.arange(60) % 3
    train = tbft.make_samples(x, y, name="mine")
    assert len(as_parts(train, test=tbft.make_samples(x + 0.5, y)).test) == 60
    with pytest.raises(DataError, match=r"those of the training samples .*thousandths"):
        as_parts(train, test=tbft.make_samples(1000 * x, y))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows(NAMES, ["M\u00f6we"] * 6, header=("file", "label")), r"l.csv: line 2 is not UTF-8 text"),
        (rows(NAMES, WORDS, WORDS, header=("file", "label", "label")), "several columns are named label"),
        ("nothing", "l.csv: it has one column"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_where_labels_are_missed(tmp_path, text, message):
    folder = save_pictures(tmp_path / "set")
    (folder / "l.csv").write_bytes(text.encode("latin1"))
    with pytest.raises(DataError, match=rf"no class folders.*{message}"):
        tbft.read(folder)


def test_a_column_of_folds_is_not_an_input(tmp_path):
    cells = [[i / 7 for i in range(9)], range(9), [i % 5 for i in range(9)], [i % 2 for i in range(9)]]
    (tmp_path / "f.csv").write_text(rows(*cells, header=("a", "b", "fold", "label")))
    samples = tbft.read(tmp_path / "f.csv")
    assert samples.inputs.shape == (9, 2)
    assert set(samples.attributes) == {"fold"}


def test_arrays_in_class_folders_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "0.npy", np.zeros((3, 20)))
    with pytest.raises(DataError, match=r"1 \.npy.*np\.save.*np\.stack.*factory"):
        tbft.read(tmp_path)


#: What spreadsheets and editors put around a table that says the same as all others.
AROUND = {
    "a line for spreadsheets": "sep=;\n" + rows(NAMES, WORDS, separator=";", header=("file", "label")),
    "comments above": "# exported\n# today\n" + rows(NAMES, WORDS, header=("file", "label")),
    "separators behind": rows(NAMES, [f"{w},," for w in WORDS], header=("file", "label")),
    "a column without a name": rows(NAMES, [f"{w}," for w in WORDS], header=("file", "label,")),
    "columns of one name": rows(NAMES, [f"{w},1,2" for w in WORDS], header=("file", "label,x,x")),
    "blanks that are not seen": rows(NAMES, ["dog\u200b", "cat\u00a0"] * 3, header=("file", "label")),
    "rows without content": rows(NAMES, [f"{w}\n,\n" for w in WORDS], header=("file", "label")),
}


@pytest.mark.parametrize("text", AROUND.values(), ids=AROUND)
def test_what_programs_add_to_a_table_changes_nothing(tmp_path, text):
    (save_pictures(tmp_path) / "labels.csv").write_text(text)
    samples = tbft.read(tmp_path)
    assert (samples.class_names, samples.labels.tolist()) == (("cat", "dog"), [1, 0] * 3)
    if "x,x" in text:
        assert {"x", "x.1"} <= set(samples.attributes)


@pytest.mark.parametrize("closed", ['a"b', "a"])
def test_a_quote_that_swallows_rows_is_refused_by_its_line(tmp_path, closed):
    notes = ["a", '"b', "c", f"d{closed}", "e", "f"]
    text = rows(NAMES, WORDS, notes, header=("file", "label", "note"))
    (save_pictures(tmp_path) / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=r"labels.csv: line 3: a quote is not closed"):
        tbft.read(tmp_path / "labels.csv")


def test_a_quoted_cell_may_hold_line_breaks_and_one_of_a_megabyte_is_refused(tmp_path):
    text = rows(NAMES, WORDS, ['"two\nlines"'] * 6, header=("file", "label", "note"))
    (save_pictures(tmp_path) / "labels.csv").write_text(text)
    assert len(tbft.read(tmp_path / "labels.csv")) == 6
    (tmp_path / "labels.csv").write_text(text + f"000.png,dog,{'x' * 200_000}\n")
    with pytest.raises(DataError, match="line 14: a cell is longer than 131,072 characters"):
        tbft.read(tmp_path / "labels.csv")


def test_labels_with_a_decimal_comma_are_numbers(tmp_path):
    text = rows(NAMES, ["1,0", "0,0"] * 3, separator=";", header=("file", "label"))
    (save_pictures(tmp_path) / "labels.csv").write_text(text)
    assert tbft.read(tmp_path).class_names == ("0", "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;b;label\n1.500;2,5;x\n2.500;3,5;y\n", r"with a comma \(2,5\) and with a point \(1.500\)"),
        ('a,b,label\n"1,500",2,x\n"2,500",3,y\n', "column a holds numbers in another notation, '1,500'"),
        ("a,b,label\n50%,2,x\n60%,3,y\n", "column a holds numbers in another notation, '50%'"),
        ("a,b,label\ninf,2,x\n1,3,y\n3,4,x\n", "1 of 3 samples have NaN or infinite"),
        ("a,b,label\n1,2,x\n?,3,y\n3,4,x\n", r"line 3: '\?' is not a number"),
    ],
)
def test_numbers_that_may_mean_something_else_are_refused(tmp_path, text, message):
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        tbft.read(tmp_path / "set.csv")


def test_decimal_commas_are_noted(tmp_path):
    (tmp_path / "set.csv").write_text("a;b;label\n1,500;2;x\n2,25;3;y\n")
    samples = tbft.read(tmp_path / "set.csv")
    assert samples.inputs[:, 0].tolist() == [1.5, 2.25]
    assert any("commas in numbers are read as decimal signs (1,500)" in note for note in samples.notes)


def test_a_name_that_several_pictures_have_is_distinguished_from_one_that_none_has(tmp_path):
    for folder in "ab":
        save_pictures(tmp_path / folder)
    (tmp_path / "labels.csv").write_text(rows(NAMES, WORDS, header=("file", "label")))
    with pytest.raises(DataError, match="write their folders, as several have these names"):
        tbft.read(tmp_path / "labels.csv")
