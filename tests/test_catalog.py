"""The list of methods is read from source text, and says what the classes are."""

from __future__ import annotations

import subprocess
import sys

import pytest

import adaptune
from adaptune.catalog import _entry, catalog
from adaptune.engine.method import hyperparameters
from adaptune.methods import METHODS


def test_every_listed_method_is_read_in_order():
    assert [one.name for one in catalog()] == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_read_is_what_the_class_says(name):
    [entry] = [one for one in catalog() if one.name == name]
    method = METHODS[name]
    assert entry.setting == method.setting
    assert entry.summary == method.__doc__.splitlines()[0]
    assert f"Source: {entry.paper}." in " ".join(method.__doc__.split())
    assert entry.meanings.keys() == entry.options.keys()
    assert entry.options == {key: one.default for key, one in hyperparameters(method).items()}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.__name__)
def test_a_listed_method_is_had_from_the_package_itself(method):
    assert getattr(adaptune, method.__name__) is method
    assert method.__name__ in adaptune.__all__


def test_what_the_package_lacks_is_no_attribute_of_it():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = adaptune.Nothing


def test_a_class_that_does_not_describe_itself_is_refused():
    with pytest.raises(ValueError, match="Method in engine.method must have"):
        _entry("method", "Method", "engine.method")


@pytest.mark.parametrize("words", [["--help"], ["methods"], ["methods", "--json"]])
def test_what_only_tells_needs_neither_torch_nor_timm(words):
    forbidden = "dict.fromkeys(['torch', 'timm', 'sklearn', 'scipy', 'jsonargparse'])"
    script = (
        f"import sys; sys.modules.update({forbidden})\n"
        f"from adaptune.commands import main\n"
        f"sys.exit(main({words}))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "daft" in ran.stdout
