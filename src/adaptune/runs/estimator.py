"""Methods as a scikit-learn classifier of images in arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch.utils.data import Dataset

from adaptune.data.datasets import from_datasets
from adaptune.data.domains import DomainData, Loading
from adaptune.data.inputs import input_of
from adaptune.data.inputs.image import Augment
from adaptune.data.sample import WrongItemError
from adaptune.engine.batches import layout_of, to_device
from adaptune.engine.method import teachers_of
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.networks.network import Network
from adaptune.report.terminal import Terminal
from adaptune.runs.epochs import train
from adaptune.runs.folder import Run
from adaptune.runs.setup import Session, Setup, open_session
from adaptune.runtime.signals import Signals
from adaptune.selection.epochs import selection_rule

Array = npt.NDArray[Any]


class ArrayImages(Dataset[Any]):
    """Images of an array with the numbers of their classes, as a data set."""

    def __init__(self, images: Array, numbers: Array) -> None:
        self.images, self.numbers = images, numbers

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.images[row], int(self.numbers[row])


class AdaptedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A pretrained network adapted to images in arrays by one of the methods.

    Images are (N, H, W, 3) of bytes, RGB, which are resized and normalised as the network wants it
    and varied in training; or (N, 3, H, W) of floating point, which are inputs of the network as
    they are. Labels are numbers or words. Rows are held out of ``X`` to choose the epoch, unless
    `fit` is given some. What is trained is what ``adaptune fit`` trains on the same rows in the
    same order, with the same seed. It clones, pickles and is searched over as scikit-learn's are.

    After `fit`, ``network_`` is the network, ``classes_`` the labels in the order of its outputs,
    ``best_epoch_`` the epoch that was kept.

    Args:
        method: The name of a method that learns from labels, with or without a target.
        options: The method's hyper-parameters, where they are not its defaults.
        backbone: What is adapted, as in `Setup`.
        weights: Its weights, as in `Setup`.
        image_size: The side of inputs in pixels; by default the network's own.
        crop: The share of the shorter side that the centre crop keeps; by default the network's.
        augment: How training images are varied.
        epochs: Passes over the training images.
        batch_size: Images in a training batch.
        plan: Further settings of a `Plan`, by name.
        val_share: The share of rows held out to choose the epoch; 0 keeps the last.
        device: Where to compute: auto, cpu, cuda or mps.
        workers: Processes that prepare images.
        random_state: The seed of all that is random.
        verbose: Whether progress is shown.
    """

    def __init__(
        self,
        method: str = "daft",
        *,
        options: Mapping[str, Any] | None = None,
        backbone: str = Setup.backbone,
        weights: str | None = None,
        image_size: int | None = None,
        crop: float | None = None,
        augment: Augment = Setup.augment,
        epochs: int = Plan.epochs,
        batch_size: int = Loading.batch_size,
        plan: Mapping[str, Any] | None = None,
        val_share: float = 0.1,
        device: str = Setup.device,
        workers: int = 0,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.method, self.options = method, options
        self.backbone, self.weights = backbone, weights
        self.image_size, self.crop, self.augment = image_size, crop, augment
        self.epochs, self.batch_size, self.plan = epochs, batch_size, plan
        self.val_share, self.device, self.workers = val_share, device, workers
        self.random_state, self.verbose = random_state, verbose

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        validation: tuple[Any, Any] | None = None,
        target: Any = None,
    ) -> Self:
        """Adapt the network to images and their labels.

        Args:
            X: Images.
            y: A label for each.
            validation: Images and labels that choose the epoch, instead of rows of ``X``.
            target: Images of the domain to adapt to, for methods that want some.

        Raises:
            ValueError: If images or labels are not as they should be, there are fewer than two
                classes, or the method lacks what it needs.
        """
        images, labels = _images(X), _labels(y)
        if len(images) != len(labels):
            raise ValueError(f"there are {len(images)} images and {len(labels)} labels")
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"two or more classes are needed, and there is {self.classes_}")
        held, told = self._held_out(images, numbers, validation)
        if validation is None and len(told):
            rows = np.setdiff1d(np.arange(len(images)), told)
            images, numbers, held, told = images[rows], numbers[rows], images[told], numbers[told]
        session = self._session(ArrayImages(images, numbers), ArrayImages(held, told), target)
        terminal, signals = Terminal(quiet=not self.verbose), Signals()
        select = selection_rule(Setup.select, session.data)
        with TemporaryDirectory() as folder, terminal:
            run = Run(Path(folder))
            course = train(run, session, terminal, signals, select=select, of={"config": ""})
            self.network_ = Network.load(run.best)
        self.best_epoch_ = course.best.epoch
        return self

    def predict_proba(self, X: Any) -> Array:
        """Give the probability of each class, (N, classes), for each image."""
        check_is_fitted(self)
        net = self.network_
        to_device(net.eval(), Setup(device=self.device).fabric())  # type: ignore[arg-type]
        layout, device = layout_of(net), next(net.parameters()).device
        found = [torch.empty(0, len(self.classes_))]
        with torch.no_grad():
            for x in _inputs(net, _images(X), self.batch_size):
                x = x.to(device).contiguous(memory_format=layout)
                found.append(net(x).float().softmax(1).cpu())
        return torch.cat(found).numpy()

    def predict(self, X: Any) -> Array:
        """Give the likeliest label for each image."""
        numbers = self.predict_proba(X).argmax(1)
        labels: Array = self.classes_[numbers]
        return labels

    def __sklearn_tags__(self) -> Any:
        """Say that rows are images, not vectors."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _held_out(
        self, images: Array, numbers: Array, validation: tuple[Any, Any] | None
    ) -> tuple[Array, Array]:
        """Give images and numbers that were passed to choose the epoch, or rows to hold out."""
        if validation is not None:
            held, labels = _images(validation[0]), _labels(validation[1])
            unknown = np.setdiff1d(labels, self.classes_)
            if len(unknown) or len(held) != len(labels):
                raise ValueError(
                    f"validation has {len(held)} images, {len(labels)} labels, and labels that y "
                    f"has not: {unknown.tolist()}"
                )
            return held, np.searchsorted(self.classes_, labels)
        if not self.val_share:
            return images[:0], numbers[:0]
        rows = np.arange(len(images))
        split = {"test_size": self.val_share, "random_state": self.random_state}
        try:
            _, held = train_test_split(rows, stratify=numbers, **split)
        except ValueError as error:
            raise ValueError(
                f"{len(images)} images are too few to hold some of each class out ({error}): give "
                "more, another val_share, or val_share=0"
            ) from error
        return images[:0], np.sort(held)

    def _session(self, train: ArrayImages, val: ArrayImages, target: Any) -> Session:
        """Put together what is trained; see `open_session`."""
        known = {
            name
            for name, kind in METHODS.items()
            if kind.needs.labeled and teachers_of(kind) == "none"
        }
        if self.method not in known:
            raise ValueError(f"method is one of {', '.join(sorted(known))}: got {self.method!r}")
        loading = Loading(self.batch_size, workers=self.workers, seed=self.random_state)
        names = [str(one) for one in self.classes_]
        to = None if target is None else ArrayImages(_images(target), np.zeros(len(target), int))
        data: DomainData = from_datasets(train, val, val, classes=names, target=to, loading=loading)
        data = data.without_own_test()
        if not len(val):
            data = replace(data, sets={"train": data.sets["train"]})
        setting = Setup(
            self.backbone,
            self.weights,
            self.image_size,
            self.crop,
            self.augment,
            device=self.device,  # type: ignore[arg-type]
        )
        plan = Plan(**{"epochs": self.epochs, "seed": self.random_state} | dict(self.plan or {}))
        return open_session(METHODS[self.method], self.options or {}, data, setting, plan)


def _images(X: Any) -> Array:
    """Give images as an array.

    Raises:
        ValueError: If they are none, or none that are known.
    """
    images = np.asarray(X)
    numbers = images.dtype.kind == "f" and images.ndim == 4 and images.shape[1] == 3
    pixels = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
    if not (numbers or pixels):
        raise ValueError(
            "images should be (N, H, W, 3) of uint8, or (N, 3, H, W) of floating point, normalised "
            f"as the network wants them: got {images.shape} of {images.dtype}"
        )
    if numbers and not np.isfinite(images).all():
        raise ValueError("images hold NaN or infinity: leave those images out")
    if not len(images):
        raise ValueError("there are 0 images: give some")
    return images.astype(np.float32, copy=False) if numbers else images


def _labels(y: Any) -> Array:
    """Give labels as an array of one axis."""
    if y is None:
        raise ValueError("fit needs labels, and y is None: pass one for each image")
    labels: Array = column_or_1d(y, warn=True)
    check_classification_targets(labels)
    return labels


def _inputs(net: Network, images: Array, size: int) -> Iterator[torch.Tensor]:
    """Make inputs of images, some at a time."""
    reader = input_of(net.preprocess)
    for start in range(0, len(images), size):
        try:
            yield torch.stack([reader.given(one) for one in images[start : start + size]])
        except (OSError, WrongItemError) as error:
            raise ValueError(f"of rows {start} to {start + size}, one is wrong: {error}") from error
