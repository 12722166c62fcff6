"""Classes that are made of words where a command is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jsonargparse import Namespace

from adaptune.commands.parser import Parser
from adaptune.data.labels.classes import classes_of
from adaptune.data.listers import listing_reader
from adaptune.data.readers.texts import TextSource
from adaptune.data.sources import find_domains
from adaptune.networks.backbones import CLIPS, open_backbone
from adaptune.networks.joint import Joint
from adaptune.networks.network import Network
from adaptune.runs.folder import best_network
from adaptune.runs.zero_shot import WordsAverage, classifying

USUAL = "a photo of a {}"
"""What classes that are named alone are made of (Radford et al., 2021)."""


def add_words(parser: Parser) -> None:
    """Let a command make classes of words, given at once or one by one."""
    parser.add_argument(
        "--words",
        action="extend",
        nargs="+",
        type=str,
        default=[],
        metavar="TEMPLATE",
        help="where a network meets texts: what classes are made of, such as 'a photo of a {}', "
        "and a JSON or CSV file of texts for each, which stand where a template has {text}",
    )


def add_named_classes(parser: Parser) -> None:
    """Let a command make classes of words and choose how, for a network that was trained."""
    add_words(parser)
    parser.add_argument(
        "--words-average",
        type=WordsAverage,
        default="auto",
        help="where a class has several texts: the mean of their embeddings, or of similarities "
        "with them; auto is similarities for a file",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        type=str,
        default=[],
        help="where a network meets texts: the names of the classes, which may be new to it",
    )


def opened(run: str) -> Network:
    """Open the network of a run, a saved one, or the one that clip:FOLDER is.

    Raises:
        ValueError: If there is none.
    """
    return (
        open_backbone(run, ()) if run.startswith(CLIPS) else Network.load(best_network(Path(run)))
    )


def named_classes(net: Network, given: Namespace, classes: Sequence[str]) -> Network:
    """Give a network the classes that a command names, if it does; ``classes`` if it has but words.

    Raises:
        ValueError: If it knows no texts, or a class is named twice.
    """
    if not given.words and not given.classes:
        return net
    matches = isinstance(net.head, Joint)
    names = classes_of(given.classes or ([] if matches and classes == net.classes else classes))
    if not names:
        raise ValueError("this network knows no classes: name them, as in --classes cat dog")
    return classifying(net, names, given.words or [USUAL], given.words_average)


def need_classes(net: Network, what_to_do: str = "name some, as in --classes cat dog") -> Network:
    """Refuse a network that answers with no class; say what to do instead.

    Raises:
        ValueError: If it is one.
    """
    if isinstance(net.head, Joint):
        raise ValueError(f"this network matches pairs and knows no classes: {what_to_do}")
    return net


def classes_there(named: Mapping[str, Path], texts: TextSource | None) -> list[str]:
    """Find the classes of folders and tables that are named, each once.

    Raises:
        ValueError: If a place is missing or empty.
    """
    found = find_domains(None, named, read=listing_reader("class", None, texts=texts)).others
    return list(dict.fromkeys(name for one in found for name in one.classes))
