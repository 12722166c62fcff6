"""`methods` lists every method with its summary and what can be set."""

import json

import pytest

from adaptune.method import hyperparameters
from adaptune.methods import METHODS


def test_every_method_is_listed_with_its_summary_and_options(told):
    code, out, _ = told("methods")
    assert code == 0
    for name, method in METHODS.items():
        assert f"{name:6} {method.__doc__.splitlines()[0]}" in out
        for option in hyperparameters(method):
            assert f"{option}=" in out


@pytest.mark.parametrize("name", METHODS)
def test_json_gives_the_defaults_of_the_signature(told, name):
    code, out, error = told("methods", "--json")
    assert (code, error) == (0, "")
    listed = json.loads(out)["methods"]
    assert list(listed) == list(METHODS)
    options = {key: one.default for key, one in hyperparameters(METHODS[name]).items()}
    assert listed[name]["options"] == options
