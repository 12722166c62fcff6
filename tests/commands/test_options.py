"""Options: domains by name, settings of methods, config files that come back."""

import pytest
import yaml

from adaptune.commands.config import yaml_text
from adaptune.commands.options import add_method, find_method_name, method_options, training_parser
from adaptune.data.words import named_folders
from adaptune.methods import METHODS


@pytest.mark.parametrize("word", ["sketch", "=sketch", "sketch=", ""])
def test_a_domain_without_a_name_or_a_folder_is_refused(word):
    with pytest.raises(ValueError, match="expected NAME=DIR"):
        named_folders([word])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a=1", "a=2"], "two test sets are called 'a'"),
        (["id=1"], "no domain can be called 'id'"),
        (["a=1", "Test=2"], "no domain can be called 'Test'"),
    ],
)
def test_a_name_that_is_taken_is_refused(words, said):
    with pytest.raises(ValueError, match=said):
        named_folders(words)


def test_a_domain_that_is_named_twice_with_one_folder_is_one():
    assert list(named_folders(["a=1", "a=1"])) == ["a"]


def test_a_folder_may_hold_an_equals_sign():
    assert str(named_folders(["sketch=run=3/sketch"])["sketch"]) == "run=3/sketch"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_without_settings_has_its_own_defaults(name):
    assert METHODS[name].__init__.__kwdefaults__ == method_options(name, [])


def test_settings_are_read_as_the_signature_has_them():
    options = method_options("daft", ["lr=1e-2", "head=published", "head_lr=1", "k=2"])
    assert (options["lr"], options["head"], options["head_lr"]) == (0.01, "published", 1.0)
    assert method_options("daft", ["head-lr=1"])["head_lr"] == 1.0


@pytest.mark.parametrize("name", METHODS)
def test_no_setting_of_a_method_has_the_name_of_another_option(name):
    parser = training_parser("fit", "", skip=frozenset())
    add_method(parser, METHODS[name])
    assert set(method_options(name, [])) <= {action.dest for action in parser._actions}


@pytest.mark.parametrize("setting", ["rate=1", "lr=fast", "batchnorm=off", "cs=0.5"])
def test_a_setting_that_does_not_fit_is_explained_with_those_that_there_are(setting):
    with pytest.raises(ValueError, match=r"lr, batchnorm.*does not fit") as raised:
        method_options("lp-ft", [setting])
    assert setting in str(raised.value)


def test_the_method_may_come_from_a_config_file_and_the_last_word_counts(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("method: lp\n")
    assert find_method_name(["--config", str(config)]) == "lp"
    assert find_method_name([f"--config={config}", "--method=ft"]) == "ft"
    assert find_method_name(["photos"]) == "daft"


@pytest.mark.parametrize("text", ["a: [1\nb: :", "just words"])
def test_a_config_file_that_holds_no_settings_is_named(tmp_path, told, text):
    (tmp_path / "bad.yaml").write_text(text)
    code, _, error = told("fit", "--config", tmp_path / "bad.yaml", "--out", tmp_path / "x")
    assert code == 1
    assert "bad.yaml" in error


def test_settings_come_back_from_yaml_as_they_were():
    settings = {"lr": 1e-5, "name": "none", "share": 1.0, "words": ["a=b"], "strict": False}
    assert yaml.safe_load(yaml_text({**settings, "left": None})) == settings
