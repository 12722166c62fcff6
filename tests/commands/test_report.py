"""`report` writes the page of a folder again; the page needs nothing but itself."""

import json
import re
from html.parser import HTMLParser
from shutil import copytree, rmtree

import pytest

from adaptune.commands import main

pytestmark = pytest.mark.usefixtures("drawn")

LOADS = {"src", "srcset", "href", "xlink:href", "data", "action", "poster"}


class Page(HTMLParser):
    """Collects what a page would load, its tags and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in LOADS and value]

    def handle_data(self, data):
        self.text += data


def without_figures(page: str) -> str:
    """Leave out what is drawn: the run may have been made where figures are words alone."""
    return re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def compared(tmp_path_factory, photos, sketches, tiny):
    folder = tmp_path_factory.mktemp("compared") / "all"
    words = [str(photos), f"--ood=sketch={sketches}", *tiny, "--epochs=1", f"--out={folder}"]
    assert main(["compare", *words, "--methods=daft,lp", "--seeds=1", "--set", "lp.cs=3"]) == 0
    return folder


@pytest.fixture(params=["run", "comparison"])
def folder(request, tmp_path):
    made = request.getfixturevalue({"run": "finished", "comparison": "compared"}[request.param])
    return copytree(made, tmp_path / request.param)


def test_the_page_is_written_again_from_what_the_folder_holds(folder, told):
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    code, out, _ = told("report", folder)
    assert code == 0
    assert out.strip() == str(folder / "report.html")
    shown = Page((folder / "report.html").read_text())
    assert shown.text.replace(str(folder), "").split() != []
    written = (folder / "report.html").read_text()
    assert Page(without_figures(written)).tags == Page(without_figures(before)).tags


def test_json_names_the_page(folder, told):
    code, out, _ = told("report", folder, "--json")
    assert code == 0
    assert json.loads(out) == {"report": str(folder / "report.html")}


def test_the_page_loads_nothing_from_anywhere(folder):
    text = (folder / "report.html").read_text()
    page = Page(text)
    inside = re.compile(r"data:|#|runs/[\w-]+/report\.html$")
    assert [link for link in page.loads if not inside.match(link)] == []
    styled = re.findall(r"url\(\s*['\"]?([^)'\"]*)", text)
    assert [link for link in styled if not inside.match(link)] == []
    assert "@import" not in text
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    assert any(link.startswith("data:image/png") for link in page.loads) or "svg" in page.tags


def test_the_page_shows_methods_domains_and_how_to_run_it_again(folder):
    text = Page((folder / "report.html").read_text()).text
    for words in ("daft", "sketch", "--config"):
        assert words in text


def test_pages_do_not_need_the_images_any_more(finished, two_domains, tmp_path, told):
    folder = copytree(finished, tmp_path / "run")
    results = folder / "results.json"
    results.write_text(results.read_text().replace(str(two_domains), "/gone"))
    assert told("report", folder)[0] == 0


def test_names_of_classes_are_text_never_markup(finished, tmp_path, told):
    folder = copytree(finished, tmp_path / "run")
    results = folder / "results.json"
    results.write_text(results.read_text().replace('"dots"', '"<script>x</script>"'))
    assert told("report", folder)[0] == 0
    page = (folder / "report.html").read_text()
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page


def test_a_comparison_whose_runs_are_gone_is_an_error(compared, tmp_path, told):
    folder = copytree(compared, tmp_path / "all")
    rmtree(folder / "runs")
    code, _, error = told("report", folder)
    assert code == 1
    assert "results.json" in error
