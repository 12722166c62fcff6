"""One name, whatever writes it: accents, blanks and case; and one order of all classes."""

from __future__ import annotations

import inspect
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from unicodedata import normalize

import pytest

from adaptune.data.annotators import PeopleAnnotator
from adaptune.data.file_rows import FileRows
from adaptune.data.inputs.image import ImageInput
from adaptune.data.labels import NoLabels
from adaptune.data.labels.classes import map_to
from adaptune.data.listing import Example, Shares, split_by_subject, split_position
from adaptune.data.names import class_order
from adaptune.data.opening import open_domains, other_domains
from adaptune.data.readers.folder import read_folder
from adaptune.data.readers.manifest import read_manifest
from adaptune.data.readers.tars import read_tars
from adaptune.data.rotation import leave_one_out, list_domains_below
from adaptune.data.sources import find_domains, read_source
from adaptune.data.words import named_folders
from adaptune.networks.network import Preprocess

COMPOSED, APART = normalize("NFC", "café"), normalize("NFD", "café")


def write(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def as_folder(tmp_path: Path, labels: list[str]) -> Path:
    return write(tmp_path / "folder", *(f"{label}/{n}.png" for n, label in enumerate(labels)))


def as_table(tmp_path: Path, labels: list[str]) -> Path:
    rows = [f"{n}.png,{label}" for n, label in enumerate(labels)]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]))
    return tmp_path / "all.csv"


def as_tar(tmp_path: Path, labels: list[str]) -> Path:
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for number, label in enumerate(labels):
            for ending, content in (("png", b""), ("cls", label.encode())):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return tmp_path / "all.tar"


WRITERS = [as_folder, as_table, as_tar]


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "2", "1", "0"], "0 1 2 10"),
        (["10", "01", "2", "1", "001"], "001 01 1 2 10"),
        (["3", "-1", "10"], "-1 3 10"),
        (["10", "2", "b", "B"], "10 2 B b"),
        (["class10", "class2"], "class10 class2"),
        (["1.5", "10", "2"], "1.5 10 2"),
    ],
)
@pytest.mark.parametrize("write_as", WRITERS)
def test_folders_tables_and_tars_have_one_order_of_classes(tmp_path, write_as, labels, order):
    (listing,) = read_source(write_as(tmp_path, labels), "x")
    assert listing.classes == tuple(order.split())


def test_the_order_does_not_depend_on_the_hash_seed():
    file = repr(inspect.getsourcefile(class_order))  # alone, so that nothing else is imported
    code = f"import runpy; print(runpy.run_path({file})['class_order']({{'1', '01', '001', '2'}}))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert said == {b"('001', '01', '1', '2')\n"}


def test_a_name_of_very_many_digits_is_ordered_too():
    assert class_order(["9" * 5000, "1"]) == ("1", "9" * 5000)


@pytest.mark.parametrize("write_as", WRITERS)
@pytest.mark.parametrize("form", [COMPOSED, APART])
def test_a_class_is_one_however_its_accents_are_written(tmp_path, write_as, form):
    (listing,) = read_source(write_as(tmp_path, [form, "dog"]), "x")
    assert listing.classes == (COMPOSED, "dog")
    assert {example.label for example in listing.examples} == {COMPOSED, "dog"}


@pytest.mark.parametrize("forms", [(COMPOSED, APART), ("cat", "cat ")])
def test_two_folders_of_one_class_are_merged_and_said_to_be(tmp_path, forms):
    root = write(tmp_path, f"{forms[0]}/1.png", f"{forms[1]}/2.png", "dog/3.png")
    listing = read_folder(root, "photo")
    assert listing.classes == (forms[0], "dog")
    assert all(example.path.exists() for example in listing.examples)
    assert len(listing.examples) == 3
    assert f"are one class: {forms[0]}" in " ".join(listing.notes)


def test_no_folder_is_said_to_be_merged_that_is_in_several_splits(tmp_path):
    assert read_folder(write(tmp_path, "train/cat/1.png", "test/cat/2.png"), "photo").notes == ()


@pytest.mark.parametrize("trained", [COMPOSED, APART])
@pytest.mark.parametrize("tested", [COMPOSED, APART])
def test_classes_and_subjects_meet_across_domains(tmp_path, trained, tested):
    names = [f"{trained}/{trained}-{n}.png" for n in range(30)]
    own = write(tmp_path / "a", *names, "dog/d1.png", "dog/d2.png")
    other = write(tmp_path / "b", *(name.replace(trained, tested) for name in names))
    one, two = (read_source(path, path.name)[0] for path in (own, other))
    places = [
        {normalize("NFC", e.path.stem): e.split for e in split_by_subject(x, Shares()).examples}
        for x in (one, two)
    ]
    assert places[1].items() <= places[0].items()
    mapped = map_to(one.classes, two, split_by_subject(one, Shares()).of("train"))
    assert mapped.unknown == {}
    assert mapped.seen == len(split_by_subject(two, Shares()).of("train")) > 0


def test_a_subject_keeps_the_place_that_its_composed_name_always_had():
    subject = Example(Path(f"{APART}-1.png"), "").subject
    assert split_position(subject) == split_position(f"{COMPOSED}-1")


@pytest.mark.parametrize("asked", [COMPOSED, APART, f" {COMPOSED}"])
def test_classes_and_domains_are_asked_for_by_any_form(tmp_path, asked):
    root = write(tmp_path / "a", f"{APART}/1.png", "dog/2.png", "emu/3.png")
    data = open_domains(root, shares=Shares(0, 0), classes=["dog", asked])
    assert data.classes == ("dog", COMPOSED)
    assert [path.name for path in data.sets["train"].paths] == ["1.png", "2.png"]
    rows = [f"1.png,cat,{APART}", "2.png,cat,b", f"3.png,cat,{COMPOSED}"]
    table = tmp_path / "all.csv"
    table.write_text("\n".join(["path,label,domain", *rows]), encoding="utf-8")
    assert list(read_manifest(table, "x")) == [COMPOSED, "b"]
    found = open_domains(table, shares=Shares(0, 0, "all"), domain=asked)
    assert list(found.ood) == ["b"]
    found = open_domains(table, shares=Shares(0, 0, "all"), domain="b", sources=[asked])
    assert found.parts["train"] == (1, 2)
    found = open_domains(table, shares=Shares(0, 0, "all"), domain="b", target=asked)
    assert found.target.name == COMPOSED
    assert list(named_folders([f"{asked}=x"])) == [COMPOSED]
    assert find_domains(None, target=f"{asked}={root}").target.name == COMPOSED


def test_two_domains_of_one_name_are_refused_whatever_their_form(tmp_path):
    with pytest.raises(ValueError, match="two test sets are called"):
        named_folders([f"{COMPOSED}=a", f"{APART}=b"])
    root = write(tmp_path, f"{COMPOSED}/cat/1.png", f"{APART}/cat/2.png", "b/cat/3.png")
    with pytest.raises(ValueError, match="two folders in .* are called"):
        list_domains_below(root)


def test_domains_whose_folders_the_disk_writes_otherwise_are_rotated(tmp_path):
    root = write(tmp_path, *(f"{APART}/{APART}/{n}.png" for n in range(20)))
    write(root, *(f"b/{COMPOSED}/b{n}.png" for n in range(20)))
    found = leave_one_out(list_domains_below(root))
    assert set(found) == {COMPOSED, "b"}
    assert all(path.exists() for data in found.values() for path in data.sets["train"].paths)


@pytest.mark.parametrize("written", [COMPOSED, APART])
@pytest.mark.parametrize("on_disk", [COMPOSED, APART])
def test_a_tables_paths_are_found_whatever_form_the_disk_has(tmp_path, written, on_disk):
    root = write(tmp_path, f"{on_disk}/{on_disk}.png")
    table = root / "all.csv"
    table.write_text(f"path,label\n{written}/{written}.png,cat\n{written}/no.png,cat\n", "utf-8")
    found, gone = read_manifest(table, "x")["x"].examples
    assert found.path == root / on_disk / f"{on_disk}.png"
    assert not gone.path.exists()


def test_a_folder_that_is_given_in_another_form_is_found(tmp_path):
    root = write(tmp_path, f"{APART}/cat/1.png")
    assert read_source(root / COMPOSED, "x")[0].examples[0].path.exists()
    assert find_domains(None, target=str(root / COMPOSED)).target.name == COMPOSED


def test_tars_find_the_class_of_an_image_whose_name_is_written_otherwise(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in (f"{APART}.png", f"{COMPOSED}.cls"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"dog"))
    assert [one.label for one in read_tars(tmp_path / "a.tar", "x").examples] == ["dog"]


def test_a_network_that_was_trained_on_another_form_is_tested_on_its_classes(tmp_path):
    root = write(tmp_path, f"{COMPOSED}/1.png", "dog/2.png")
    data = other_domains({"x": root}, classes=["dog", APART])
    assert data.ood["x"].labels == [1, 0]


def test_answers_are_found_whatever_form_a_spreadsheet_gave_them(tmp_path):
    file = write(tmp_path, f"{APART}.png") / f"{APART}.png"
    images = FileRows([Example(file, "")], ImageInput(Preprocess()), NoLabels())
    row = f"{normalize('NFC', str(file))},{APART}"
    (tmp_path / "q.csv").write_text(f"path,label\n{row}\n", "utf-8")
    assert PeopleAnnotator(tmp_path / "q.csv")([0], images, ["dog", COMPOSED]) == [1]


@pytest.mark.parametrize(("names", "said"), [(["a", " a"], "'a' twice"), (["a", " "], "without a")])
def test_classes_that_are_asked_for_twice_or_have_no_name_are_refused(tmp_path, names, said):
    root = write(tmp_path, "a/1.png")
    with pytest.raises(ValueError, match=said):
        open_domains(root, classes=names)


def test_blanks_around_a_label_make_no_other_class_and_are_said(tmp_path):
    (listing,) = read_source(as_table(tmp_path, ["cat", "cat ", " cat", "dog", "\xa0cat"]), "x")
    assert listing.classes == ("cat", "dog")
    assert listing.notes == ("x: blanks around a label are no part of it: line 3, line 4, line 6",)


@pytest.mark.parametrize("write_as", WRITERS)
def test_classes_that_differ_by_case_or_inner_blanks_are_named_before_training(tmp_path, write_as):
    source = write_as(tmp_path, ["cat", "Cat", "new york", "New  York", "dog"])
    data = open_domains(source, shares=Shares(0, 0))
    (note,) = [note for note in data.notes if "differ" in note]
    assert "'Cat' = 'cat'; 'New  York' = 'new york'" in note
    assert not open_domains(source, shares=Shares(0, 0), classes=["cat", "dog"]).notes[1:]


def test_a_domain_whose_classes_map_by_case_alone_is_said_to(tmp_path):
    own = as_folder(tmp_path, ["cat", "dog"])
    other = as_table(tmp_path, ["Cat", "dog"])
    data = open_domains(own, {"x": other}, shares=Shares(0, 0, "all"))
    assert [note for note in data.notes if "x: its Cat were taken for" in note]
