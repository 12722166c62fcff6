"""Manifests: the same table says the same, as CSV and as Parquet."""

import pytest

from adaptune.data.opening import open_domains
from adaptune.data.readers.manifest import read_manifest

ROWS = [
    {"path": "a/1.png", "label": "cat", "domain": "photo", "split": "train"},
    {"path": "a/2.png", "label": "dog", "domain": "photo", "split": ""},
    {"path": "/far/3.png", "label": "cat", "domain": "sketch", "split": "Validation"},
]


def write(file, rows, *, encoding="utf-8"):
    if file.suffix == ".parquet":
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        rows = [{key: None if value == "" else value for key, value in row.items()} for row in rows]
        pandas.DataFrame(rows).to_parquet(file)
        return file
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding=encoding)
    return file


@pytest.mark.parametrize("ending", ["csv", "parquet", "CSV"])
def test_a_table_names_paths_labels_domains_and_splits(tmp_path, ending):
    domains = read_manifest(write(tmp_path / f"all.{ending}", ROWS), "all")
    assert list(domains) == ["photo", "sketch"]
    first, second = domains["photo"].examples
    (third,) = domains["sketch"].examples
    assert (first.path, first.label, first.split) == (tmp_path / "a/1.png", "cat", "train")
    assert (second.label, second.split) == ("dog", None)
    assert (str(third.path), third.split) == ("/far/3.png", "val")
    assert domains["photo"].classes == ("cat", "dog")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_without_a_domain_column_all_rows_are_one_domain(tmp_path, ending):
    rows = [{"path": f"{n}.png", "label": n} for n in range(3)]
    domains = read_manifest(write(tmp_path / f"all.{ending}", rows), "mine")
    assert list(domains) == ["mine"]
    assert domains["mine"].classes == ("0", "1", "2")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    file = write(tmp_path / "excel.csv", ROWS, encoding="utf-8-sig")
    assert len(read_manifest(file, "x")["photo"].examples) == 2


def test_a_missing_column_is_named_beside_those_that_were_found(tmp_path):
    file = write(tmp_path / "all.csv", [{"path": "1.png", "class": "cat"}])
    with pytest.raises(ValueError, match=r"lacks the column label.*found path,class"):
        read_manifest(file, "x")


@pytest.mark.parametrize(
    ("change", "said"), [({"split": "holdout"}, "holdout"), ({"label": ""}, "is empty")]
)
def test_a_bad_row_is_named_by_its_line(tmp_path, change, said):
    file = write(tmp_path / "all.csv", [ROWS[0], ROWS[1], ROWS[2] | change])
    text = file.read_text().replace("\n/far", "\n\n/far")  # a blank line counts as a line
    file.write_text(text)
    with pytest.raises(ValueError, match=f"line 5: .*{said}"):
        read_manifest(file, "x")


@pytest.mark.parametrize("text", ["", "path,label\n"])
def test_a_table_without_rows_says_which_columns_it_should_have(tmp_path, text):
    file = tmp_path / "all.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match="no rows: expected the columns path,label"):
        read_manifest(file, "x")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest at .*none\.csv"):
        read_manifest(tmp_path / "none.csv", "x")


def table_of(folder, file, **columns):
    """List a folder's images in a manifest, by paths relative to it."""
    paths = sorted(folder.glob("*/*.png"))
    return [
        {"path": path.relative_to(file.parent), "label": path.parent.name} | columns
        for path in paths
    ]


def test_files_that_are_missing_are_counted_when_read_and_never_fatal(own_photos, tmp_path):
    file = tmp_path / "all.csv"
    rows = table_of(own_photos, file)
    write(file, [*rows, {"path": "photo/gone.png", "label": "dots"}])
    data = open_domains(file)
    read = sum(len(rows) for split in ("train", "val", "test") for rows in data.scan(split))
    assert read == len(rows)
    assert list(data.problems) == [str(tmp_path / "photo/gone.png")]


def test_a_table_trains_on_its_first_domain_and_tests_on_the_others(own_photos, tmp_path):
    file = tmp_path / "all.csv"
    rows = table_of(own_photos, file, domain="photo")
    others = [row | {"domain": domain} for row in rows[::7] for domain in ("ink", "clay")]
    data = open_domains(write(file, rows + others))
    assert list(data.tests()) == ["id", "ink", "clay"]
    assert sum(map(len, data.sets.values())) == len(rows)


def test_a_table_given_as_another_domain_takes_the_name_it_is_given(photos, own_photos, tmp_path):
    file = tmp_path / "drawn.csv"
    rows = table_of(own_photos, file, domain="whatever")
    assert list(open_domains(photos, {"sketch": write(file, rows)}).ood) == ["sketch"]
    several = rows + [row | {"domain": "more"} for row in rows]
    found = open_domains(photos, {"sketch": write(file, several)})
    assert list(found.ood) == ["sketch/whatever", "sketch/more"]
