"""Random names: whatever they look like, a config gives them back as they were."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptune.commands import main
from adaptune.commands.config import config_of, yaml_text
from adaptune.commands.options import read_config, training_parser
from adaptune.data.words import named_folders
from adaptune.networks.network import Network
from adaptune.runtime.files import write_text

pytestmark = pytest.mark.usefixtures("drawn")

LIKE_OTHERS = (
    *(
        "1e3",
        "1E3",
        "1e-3",
        "+1e3",
        "1.5e3",
        "0x10",
        "0b1",
        "0o7",
        "010",
        "1_000",
        "1:30",
        "1.",
        ".5",
    ),
    *(
        "yes",
        "no",
        "on",
        "off",
        "y",
        "true",
        "False",
        "null",
        "Null",
        "~",
        "",
        " ",
        ".inf",
        "-.inf",
    ),
    *(
        ".nan",
        "NaN",
        "2020-01-01",
        "2020-01-01 10:00:00",
        "[a]",
        "{a}",
        "{a: 1}",
        "a: b",
        "#x",
        "a #b",
    ),
    *(
        "@x",
        "=x",
        "=",
        "<<",
        "-",
        "-a",
        "--lr",
        "- a",
        "? a",
        "!a",
        "&a",
        "*a",
        "%a",
        "|",
        ">",
        "'",
        '"',
    ),
    *("a ", " a", "a\nb", "a\tb", "\x07", "\x85", "\u2028", "\ufeff", "é", "é", "😀", "caf\udce9"),
    *("==UNSET==", "none", "None", "1e3:", "1e3\n"),
)

NUMERIC = st.text("0123456789+-_.:eExXoObBaAfFiInN", max_size=8)

NAMES = st.one_of(
    st.sampled_from(LIKE_OTHERS),
    NUMERIC,
    st.text(max_size=12),
    st.text(st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=3),
)

calm = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def parsed(*words: str):
    return training_parser("fit", "", skip=frozenset()).parse_args(list(words))


def check(folder, classes: list[str], domain: str) -> None:
    """Names come back from a config, and so does what that is written as."""
    asked = parsed("/data", "--out=run")
    asked.classes, asked.domain = classes, domain
    asked.ood, asked.source, asked.target = ["ood=/x"], [domain], f"{domain}=/t"
    file = folder / "config.yaml"
    write_text(file, yaml_text(config_of(asked, leave_out=("out",))))
    back = parsed("--config", str(file), "--out=run")
    assert (back.classes, back.domain, back.source) == (classes, domain, asked.source)
    assert config_of(back, leave_out=("out",)) == config_of(asked, leave_out=("out",))
    assert read_config(file)["classes"] == classes


@settings(calm, max_examples=60)
@given(classes=st.lists(NAMES, min_size=1, max_size=4), domain=NAMES)
def test_names_come_back_from_a_config_whatever_they_look_like(tmp_path, classes, domain):
    check(tmp_path, classes, domain)


@pytest.mark.slow
@settings(calm, max_examples=3_000)
@given(classes=st.lists(NAMES, min_size=1, max_size=4), domain=NAMES)
def test_many_more_names_come_back_from_a_config(tmp_path, classes, domain):
    check(tmp_path, classes, domain)


@settings(calm, max_examples=60)
@given(name=NAMES)
def test_names_on_the_command_line_are_taken_as_they_are(name):
    given_ = parsed("/data", f"--classes={name}", f"--domain={name}", f"--target={name}")
    assert (given_.classes, given_.domain, given_.target) == ([name], name, name)


@pytest.mark.parametrize("name", ["1e3", "0x10", "yes", "null", "2020-01-01", "1_000", "~", ".inf"])
def test_names_that_people_write_into_a_config_without_quotes_are_words(tmp_path, name):
    file = tmp_path / "config.yaml"
    file.write_text(f"classes: [{name}, other]\nood: [{name}=/x]\nsource:\n- {name}\nlr: 1e-3\n")
    back = read_config(file)
    assert back["classes"] == [name, "other"]
    assert back["source"] == [name]
    assert back["lr"] == 0.001
    assert list(named_folders(back["ood"])) == [name]


STRANGE = ("1e3", "0x10", "yes", "null")


@pytest.fixture(scope="module")
def strange(photos, tmp_path_factory):
    """Photos in folders whose names look like numbers and the like."""
    folder = tmp_path_factory.mktemp("strange") / "1e5"
    for number, name in enumerate(STRANGE):
        (folder / name).mkdir(parents=True)
        for file in sorted((photos / ("dots", "rings", "stripes", "dots")[number]).iterdir()):
            (folder / name / f"{number}{file.name}").symlink_to(file)
    return folder


@pytest.mark.parametrize("chosen", [STRANGE, STRANGE[::-1], STRANGE[1:3]])
def test_a_run_on_such_names_goes_on_and_is_made_again(strange, tiny, tmp_path, told, chosen):
    run, again = tmp_path / "run", tmp_path / "again"
    words = [strange, *tiny, "--method=lp", "--cs=3", f"--ood=1e3={strange}", "--ood-images=all"]
    code, _, said = told("fit", *words, "--out", run, "--classes", *chosen)
    assert code == 0, said
    assert told("fit", "--resume", "--out", run)[0] == 0
    assert told("fit", "--config", run / "config.yaml", "--out", again)[0] == 0
    for folder in (run, again):
        assert Network.load(folder / "best").classes == chosen
    assert main(["evaluate", str(run)]) == 0
