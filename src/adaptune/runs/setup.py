"""One training from settings to a trained method: what a run and a trial of a search share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from adaptune.data.domains import DomainData
from adaptune.data.inputs.image import Augment
from adaptune.data.missing import missing_parts
from adaptune.data.text_lengths import cut_notes
from adaptune.engine.method import (
    Method,
    refuse_head,
    refuse_options,
    refuse_task,
    teachers_of,
    usual_rates,
)
from adaptune.engine.plan import USUAL, Plan
from adaptune.networks.backbones import lengthened, open_backbone, resized
from adaptune.networks.inputs import TextInput, need_images
from adaptune.networks.joint import texts_look
from adaptune.networks.network import Network
from adaptune.networks.spaces import to_match, with_space
from adaptune.ops.rejection import UNKNOWN_ABOVE
from adaptune.runs.folder import best_network
from adaptune.runs.needs import refuse_lack, refuse_pixels, refuse_tokens
from adaptune.runs.session import Session as Session
from adaptune.runs.teachers import open_references, refuse_teachers
from adaptune.runs.zero_shot import WordsAverage, ZeroShotHead, classifying
from adaptune.runtime.devices import Device, open_fabric
from adaptune.runtime.limits import check_range
from adaptune.tasks import TASKS
from adaptune.tasks.task import Task

MOST_PIXELS = 8192
"""The longest side of an input; more fills the memory of any device."""

WIDEST = 65536
"""The most axes that a space of pairs is taken to have."""

MOST_STRIDE = 64
"""The most pixels that features of any architecture lie apart."""

MOST_DEVICES = 64
"""The most devices that one machine is taken to have."""


@dataclass(frozen=True)
class Setup:
    """What is adapted and on what.

    Args:
        backbone: A built-in name (efficientnet-lite0 to -lite2), a timm name, torchvision/NAME, or
            hf:FOLDER, which transformers' save_pretrained wrote; for masks smp/DECODER/ENCODER too;
            for texts minilm, ngrams, or an encoder as hf:FOLDER. clip:FOLDER is a CLIP or a SigLIP
            of save_pretrained, open_clip:FOLDER one of open_clip, for --words.
        weights: A local weights file, or "none" for random weights; by default the name's own.
        image_size: The side of inputs in pixels; by default the network's own.
        crop: The share of the shorter side that the centre crop keeps; by default the network's.
        augment: How training images are varied: not at all, by flips, or by crops and flips. Texts
            never are.
        text_length: Tokens of a text at most, where texts are read; by default the network's own,
            or 128. What is longer loses its end.
        stride: Where every place has an output, as in segmentation: how many pixels of the input
            neighbouring features lie apart.
        tower: Of images that are matched with texts: what reads the texts, minilm, ngrams, or an
            encoder as hf:FOLDER. A backbone that reads texts reads both sides of a pair itself.
        space: Of what is matched: how many axes the space has in which both sides meet; by default
            as many as a text has features.
        device: Where to compute: auto, cpu, cuda (ROCm too) or mps.
        devices: Processes that train together, one a device (one a core's share on the CPU).
        precision: Arithmetic: 32-true, bf16-mixed or 16-mixed.
        select: What chooses the epoch that is tested: id-validation, last, or a score of unlabelled
            images, of the target or else of other domains, such as snd. Without validation images,
            as where the source is gone, id-validation is last.
        open_set: Test on images of further classes too, whose answer is unknown.
        unknown_above: The uncertainty of a prediction, as a share of the largest entropy, above
            which it means unknown in an open set (Qu et al., 2023). By default the least that keeps
            95% of the ID validation images known; without any, that of the network that is started
            from, or else the paper's 0.55.
        start: A run, or a saved network, to start from instead of a backbone.
        words: Where the network meets texts: what classes are made of, templates and a file of
            texts; see `class_texts`.
        words_average: Where a class has several texts: whether it is the mean of their embeddings,
            or its output the mean of its similarities with them; auto is the latter for a file.
        zero_shot_head: What compares images with classes of words: words, made by the network of
            texts, which is trained too, or linear, a head that begins at what these say.
        teachers: Runs, or saved networks, that a method learns from.
        task: What is predicted: the name of one of ``TASKS``.
        task_options: The task's own options.
    """

    backbone: str = "efficientnet-lite0"
    weights: str | None = None
    image_size: int | None = None
    crop: float | None = None
    augment: Augment = "flip"
    text_length: int | None = None
    stride: int = 8
    tower: str = ""
    space: int | None = None
    device: Device = "auto"
    devices: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    select: str = "id-validation"
    open_set: bool = False
    unknown_above: float | None = None
    start: str = ""
    words: tuple[str, ...] = ()
    words_average: WordsAverage = "auto"
    zero_shot_head: ZeroShotHead = "words"
    teachers: tuple[str, ...] = ()
    task: str = "classification"
    task_options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"no task {self.task!r}: there are {', '.join(TASKS)}")
        if self.open_set and "unknown" not in inspect.signature(TASKS[self.task]).parameters:
            raise ValueError(
                f"an open set has classes of which some are unknown, and this is {self.task}: "
                "leave out --open-set"
            )
        if self.image_size is not None and not 1 <= self.image_size <= MOST_PIXELS:
            raise ValueError(
                f"--image-size must be from 1 to {MOST_PIXELS} pixels: got {self.image_size}"
            )
        if not 1 <= self.stride <= MOST_STRIDE:
            raise ValueError(f"--stride must be from 1 to {MOST_STRIDE} pixels: got {self.stride}")
        if TASKS[self.task].labels != "text" and (self.tower or self.space is not None):
            option = "--tower" if self.tower else "--space"
            raise ValueError(f"{option} is for pairs: give --task matching too, or leave it out")
        if self.start and (self.tower or self.space is not None):
            raise ValueError(
                "--tower and --space are those of the network that is started from: leave them out"
            )
        check_range("--space", self.space, 1, WIDEST)
        if self.words and TASKS[self.task].labels != "class":
            raise ValueError(f"--words make classes, and this is {self.task}: leave them out")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"--crop must be above 0 and at most 1: got {self.crop}")
        check_range("--unknown-above", self.unknown_above, 0, 1, above=True, below=True)
        if not self.open_set and self.unknown_above not in (None, UNKNOWN_ABOVE):
            raise ValueError(
                "--unknown-above is for open sets: give --open-set too, or leave it out"
            )
        if not 1 <= self.devices <= MOST_DEVICES:
            raise ValueError(
                f"--devices must be from 1 to {MOST_DEVICES} on one machine: got {self.devices}; "
                "for more machines see torchrun in docs/scale.md"
            )

    def settings(self) -> dict[str, Any]:
        """Give what it is by name, teachers where there are any."""
        return {name: value for name, value in vars(self).items() if name != "teachers" or value}

    def for_method(self, method: type[Method]) -> Setup:
        """Give the same with the teachers that a method takes: none where it learns from none."""
        return self if teachers_of(method) != "none" else replace(self, teachers=())

    def network(self, classes: tuple[str, ...]) -> Network:
        """Build the network, or open the one to start from, with the preprocessing asked for."""
        pairs = TASKS[self.task].labels == "text"
        if self.start:
            net = Network.load(best_network(Path(self.start)))
            net = to_match(net, classes) if pairs else net
            net = net if self.image_size is None else resized(net, self.image_size)
            net = net if self.text_length is None else lengthened(net, self.text_length)
        else:
            net = open_backbone(
                self.backbone,
                classes,
                weights=self.weights,
                size=self.image_size,
                stride=self.stride if TASKS[self.task].places else None,
                length=None if self.tower else self.text_length,
            )
            if pairs:
                net = with_space(
                    net,
                    self.tower,
                    pretrained=self.weights != "none",
                    outputs=self.space or 0,
                    length=self.text_length,
                )
        if TASKS[self.task].labels == "class":
            words = (self.words, self.words_average, self.zero_shot_head)
            net = classifying(net, classes, *words)
        if self.crop is not None:
            net.preprocess = replace(need_images(net.preprocess), crop=self.crop)
        return net

    def build_task(self, data: DomainData) -> Task:
        """Make the task that is learnt from these data."""
        kind: Callable[..., Task] = TASKS[self.task]
        options = dict(self.task_options) | ({"unknown": True} if self.open_set else {})
        return kind(len(data.classes), data.domains, **options).named(data.classes)

    def fabric(self) -> Fabric:
        """Choose device and precision, and bring up the processes that train together.

        Under torchrun it decides how many there are.

        Raises:
            ValueError: If there are no such devices.
        """
        return open_fabric(self.device, self.devices, self.precision)


def open_session(
    method: type[Method],
    options: Mapping[str, Any],
    data: DomainData,
    setting: Setup,
    plan: Plan,
    *,
    fabric: Fabric | None = None,
    task: Task | None = None,
    on_pretrained: Callable[[Network, DomainData, Task, Fabric], None] = lambda *_: None,
) -> Session:
    """Build network and method, and show the data through the network's preprocessing.

    Args:
        method: The method's class.
        options: Its hyper-parameters; a rate that is left out is the optimiser's usual one.
        data: Images, as the network wants them or not yet.
        setting: Backbone, preprocessing, device.
        plan: How long to train; its seed decides the network's random weights.
        fabric: Device, precision and processes; by default those of the setting.
        task: What is predicted; by default the setting's.
        on_pretrained: Called with the pretrained network before the method takes it over.

    Raises:
        ValueError: If there are no images to train or validate on, the method lacks what it needs,
            it does not work on the task or the network's head, or teachers are not those it takes.
    """
    task = task or setting.build_task(data)
    refuse_task(method, type(task))
    if plan.optimizer != "sgd":
        options = usual_rates(method, USUAL[plan.optimizer]) | dict(options)
    refuse_options(method, options)
    refuse_lack(method, data, begun=bool(setting.start))
    refuse_teachers(method, setting.teachers)
    for said in missing_parts(data.classes, data.sets, data.labels):
        raise ValueError(said)
    torch.manual_seed(plan.seed)
    net = setting.network(data.classes)
    own = UNKNOWN_ABOVE if net.threshold == 1 else net.threshold
    net.threshold = (setting.unknown_above or own) if setting.open_set else 1.0
    calibrates = setting.open_set and setting.unknown_above is None and "val" in data.sets
    if isinstance(net.preprocess, TextInput):
        refuse_pixels(method)
    else:
        refuse_tokens(method)
    data = data.with_input(net.preprocess, setting.augment, task.tiles, texts_look(net.head))
    net.notes += cut_notes(data.augmented)
    fabric = fabric or setting.fabric()
    refuse_head(method, net)
    on_pretrained(net, data, task, fabric)
    references = open_references(method, setting.teachers, net)
    return Session(method(net, task, *references, **options), data, plan, fabric, calibrates)
