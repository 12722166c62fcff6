"""The site's pages and scripts, as far as they can be checked without building it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import adaptune
from adaptune.commands import COMMANDS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import gallery  # noqa: E402
import hooks  # noqa: E402
import tutorials  # noqa: E402

SCRIPTS = gallery.scripts()
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
MAP = (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda one: one.stem)
def test_every_script_of_the_gallery_compiles_and_is_made_of_cells(script):
    title, intro, cells = gallery.read(script)
    compile(script.read_text(), script.name, "exec")
    assert title
    assert intro
    assert all(cell.text for cell in cells)
    lines = script.read_text().splitlines()
    for cell in cells:
        compile(cell.code, script.name, "exec")
        if cell.code:
            assert lines[cell.line - 1] == cell.code.splitlines()[0]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda one: one.stem)
def test_what_a_script_calls_is_public_and_its_links_lead_somewhere(script):
    pages = {gallery.page_of(one) for one in SCRIPTS}
    for name in re.findall(r"\badaptune\.([A-Z]\w*|[a-z]\w*(?=\())", script.read_text()):
        assert name in adaptune.__all__, name
    for target in hooks.LINK.findall("\n".join(cell.text for cell in gallery.read(script)[2])):
        there = (ROOT / "docs" / "gallery" / target).resolve()
        assert there.exists() or f"gallery/{target}" in pages, target


def test_scripts_and_pages_have_names_of_their_own_in_order():
    assert len({gallery.page_of(one) for one in SCRIPTS}) == len(SCRIPTS)
    assert [one.name[:2] for one in SCRIPTS] == [f"{at:02}" for at in range(1, len(SCRIPTS) + 1)]


def test_a_script_that_runs_is_kept_with_what_it_printed_and_drew(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "SCRIPTS", tmp_path)
    script = tmp_path / "01_two.py"
    script.write_text(
        '"""Two numbers.\n\nThat are added.\n"""\n\n# %%\n# Added:\n1 + 1\nprint(2)\n'
        "from matplotlib import pyplot\npyplot.plot([1])\n"
    )
    gallery.execute(script, tmp_path / f"two-{gallery._hash(script)}")
    (tmp_path / f"two-{gallery._hash(script)}").rename(tmp_path / f"01_two-{gallery._hash(script)}")
    pages = dict(gallery.pages(tmp_path))
    assert list(pages) == ["gallery/two.md", "gallery/index.md"]
    assert pages["gallery/two.md"].startswith("# Two numbers\n\nThat are added.\n\nAdded:\n\n```py")
    assert "```{.text .printed}\n2\n```" in pages["gallery/two.md"]
    assert "01_two-0-0.svg" in pages["gallery/two.md"]
    gallery.copy_figures(tmp_path, tmp_path / "site")
    assert (tmp_path / "site" / "01_two-0-0.svg").read_text().startswith("<?xml")


def test_a_script_that_fails_stops_the_build_in_its_own_words(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "SCRIPTS", tmp_path)
    (tmp_path / "01_bad.py").write_text('"""Bad.\n\nIt is.\n"""\n# %%\n# So:\n1 / 0\n')
    with pytest.raises(RuntimeError, match="01_bad.py failed:[^$]*line 7[^$]*ZeroDivisionError"):
        list(gallery.pages(tmp_path))


def test_the_navigation_names_every_page():
    listed = set(re.findall(r"[\w/-]+\.md", MAP.partition("nav:")[2]))
    written = {str(one.relative_to(ROOT / "docs")) for one in (ROOT / "docs").rglob("*.md")}
    made = set(hooks.PAGES.values())
    assert listed == {one for one in written if not one.startswith("methods/")} | made


def test_links_lead_to_where_the_site_has_what_they_name():
    assert hooks._named("README.md", "docs/daft.md") == "docs/daft.md"
    assert hooks._named("docs/methods/dann.md", "../../README.md") == "README.md"
    assert hooks._served("docs/daft.md") == "daft.md"
    assert hooks._served("CONTRIBUTING.md") == "contributing.md"
    assert hooks._served("examples/own_loop.py") == "files/examples/own_loop.py"
    assert hooks._served("examples/gallery/01_fine_tune.py") == "gallery/fine-tune.md"
    assert hooks._named("docs/daft.md", "../../elsewhere.md") == ""


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda one: one.stem)
def test_tutorials_run_commands_that_exist_and_link_to_pages_that_do(page):
    blocks = "\n".join(tutorials.commands(page.read_text()))
    named = re.findall(r"^adaptune (\w+)", blocks, re.MULTILINE)
    assert len(named) > 2
    assert set(named) <= set(COMMANDS)
    for target in hooks.LINK.findall(page.read_text()):
        assert (page.parent / target).is_file(), target


def test_what_commands_print_is_shown_below_them_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "state", lambda: "")
    text = "# A\n\n```console\n$ echo one\n$ echo two\n```\n\nmore\n"
    shown = tutorials.shown(text, "a", tmp_path)
    assert "$ echo two\n```\n\n```{.text .printed}\none\ntwo\n```\n\nmore" in shown
    monkeypatch.setattr(tutorials, "_said", None)
    assert tutorials.shown(text, "a", tmp_path) == shown


def test_a_command_that_fails_stops_the_build(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "state", lambda: "")
    with pytest.raises(RuntimeError, match="a command failed with 3:\n[^$]*exit 3\nbefore"):
        tutorials.shown("```console\n$ echo before; exit 3\n```\n", "a", tmp_path)


def test_lists_and_tables_are_parted_from_prose_and_code_is_left_alone():
    assert hooks.spaced("a\n- b\n- c") == "a\n\n- b\n- c"
    assert hooks.spaced("<!-- x -->\n| a |\n| b |\n<!-- /x -->") == (
        "<!-- x -->\n\n| a |\n| b |\n\n<!-- /x -->"
    )
    assert hooks.spaced("```\na\n- b\n```") == "```\na\n- b\n```"


def test_every_room_and_every_public_class_has_its_place_in_the_reference():
    pages = dict(hooks.reference())
    for room in hooks.rooms():
        assert f"::: adaptune.{room}" in pages[f"reference/{room}.md"]
    for name in adaptune.__all__:
        assert name.isupper() or f"`adaptune.{name}`" in pages["reference/index.md"]


def test_nothing_of_the_site_comes_from_elsewhere():
    assert "font: false" in MAP
    assert not re.search(r"https?://", MAP)
