"""The classifier is a scikit-learn estimator, and trains what `adaptune fit` trains."""

import pickle
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from conftest import draw_domain
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils import estimator_checks

from adaptune import AdaptedClassifier, Network, open_domains
from adaptune.commands import main

SETTINGS = {
    "backbone": "test_efficientnet",
    "weights": "none",
    "image_size": 32,
    "crop": 1.0,
    "batch_size": 16,
    "epochs": 2,
    "device": "cpu",
}


def arrays(rows) -> tuple[np.ndarray, np.ndarray]:
    images = np.stack([np.asarray(Image.open(path)) for path in rows.paths])
    return images, np.array([path.parent.name for path in rows.paths])


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Path:
    """A folder with splits, so that a command and an array have the same rows."""
    folder = tmp_path_factory.mktemp("split")
    for name, each in (("train", 20), ("val", 8), ("test", 6)):
        copytree(draw_domain(folder / f"raw-{name}", each=each), folder / "data" / name)
    return folder / "data"


@pytest.fixture(scope="module")
def images(split):
    data = open_domains(split)
    return {name: arrays(rows) for name, rows in data.sets.items()}


@pytest.fixture(scope="module")
def fitted(images):
    classifier = AdaptedClassifier("daft", **SETTINGS)
    return classifier.fit(*images["train"], validation=images["val"])


def test_it_reaches_what_the_command_reaches_on_the_same_rows(split, images, fitted, tmp_path):
    words = ["--backbone=test_efficientnet", "--weights=none", "--image-size=32", "--crop=1"]
    words += ["--batch-size=16", "--epochs=2", "--device=cpu", "--out", str(tmp_path / "run")]
    assert main(["fit", str(split), *words]) == 0
    net = Network.load(tmp_path / "run" / "best").state_dict()
    own = fitted.network_.state_dict()
    assert net.keys() == own.keys()
    assert all((net[name] == own[name]).all() for name in net)


def test_it_answers_with_the_labels_that_it_was_given(images, fitted):
    X, y = images["test"]
    assert fitted.classes_.tolist() == ["dots", "rings", "stripes"]
    assert set(fitted.predict(X)) <= set(y)
    shares = fitted.predict_proba(X)
    assert shares.shape == (18, 3)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    assert fitted.score(X, y) == (fitted.predict(X) == y).mean()
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict_proba(X) == shares).all()


def test_it_is_searched_over_and_labels_may_be_numbers(images):
    X, y = images["train"]
    numbers = np.where(y == "dots", 7, -1)
    ft = AdaptedClassifier("ft", options={"lr": 0.01}, **SETTINGS | {"epochs": 1})
    search = GridSearchCV(ft, {"val_share": [0.0, 0.2]}, cv=2).fit(X, numbers)
    assert set(search.predict(X)) <= {7, -1}
    assert clone(search.best_estimator_).get_params() == search.best_estimator_.get_params()


def test_floating_point_images_are_inputs_as_they_are(images):
    X, y = images["train"]
    inputs = np.moveaxis(X, 3, 1).astype(np.float64) / 255
    lp = AdaptedClassifier("lp", options={"cs": 3}, **SETTINGS | {"val_share": 0.2})
    assert lp.fit(inputs, y).predict(inputs).shape == (60,)
    assert lp.best_epoch_ == 0


CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_get_params_invariance",
    "check_set_params",
    "check_parameters_default_constructible",
)
"""Those of scikit-learn's checks whose rows need not be vectors; all others make tables of them."""


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks_hold_that_need_no_table(name):
    getattr(estimator_checks, name)("AdaptedClassifier", AdaptedClassifier(**SETTINGS))


def test_what_it_cannot_take_is_refused_in_words(images):
    X, y = images["train"]
    classifier = AdaptedClassifier(**SETTINGS)
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    for wrong, labels, said in (
        (X[..., 0], y, r"\(N, H, W, 3\) of uint8, or \(N, 3, H, W\)"),
        (X, y[:-1], "60 images and 59 labels"),
        (X, None, "y is None"),
        (X, ["one"] * 60, "two or more classes"),
        (X[:3], ["a", "b", "c"], "too few to hold some of each class out"),
        (np.full((4, 3, 8, 8), np.nan), [0, 1, 0, 1], "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=said):
            classifier.fit(wrong, labels)
    with pytest.raises(ValueError, match="method is one of"):
        AdaptedClassifier("shot", **SETTINGS).fit(X, y)
    with pytest.raises(ValueError, match="labels that y has not"):
        classifier.fit(X, y, validation=(X[:2], ["dots", "boats"]))
    before = dict(vars(classifier))
    classifier.get_params()
    assert vars(classifier) == before
