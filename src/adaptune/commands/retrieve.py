"""`adaptune retrieve`: what of a collection belongs to queries, by a run of pairs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.commands.devices import add_device, fabric_on
from adaptune.commands.options import Parser, add_json, print_json
from adaptune.commands.outputs import writable_file
from adaptune.commands.texts import columns_of
from adaptune.data.inputs import Input, input_of
from adaptune.data.inputs.text import TextIds
from adaptune.data.loading import Loading
from adaptune.data.names import printable
from adaptune.data.readers.collections import Collection, read_collection, read_relevance
from adaptune.data.stream_reader import StreamReader
from adaptune.engine.batches import to_device
from adaptune.engine.evaluate import embeddings_of
from adaptune.metrics.found import score_found
from adaptune.networks.network import Network, TextInput
from adaptune.ops.bm25 import BM25
from adaptune.ops.nearest import Nearest
from adaptune.report.terminal import Terminal
from adaptune.runs.folder import best_network
from adaptune.runtime.limits import MOST
from adaptune.runtime.wording import speak_of_texts

COLUMNS = ("query", "rank", "document", "score")

MOST_ANSWERS = 10_000
"""The most documents that are given for a query."""

Found = dict[str, list[tuple[str, float]]]
"""The documents of each query with their scores, the best first."""


def run(words: Sequence[str]) -> None:
    """Write the best documents of each query; score them where it is known which are relevant."""
    given = _parser().parse_args(list(words))
    if given.bm25 and not given.relevance:
        raise ValueError("--bm25 is scored beside the network: give --relevance FILE too")
    net = Network.load(best_network(Path(given.run)))
    space, of_texts = net.joint, isinstance(net.preprocess, TextInput)
    if of_texts:
        speak_of_texts()
    elif given.bm25:
        raise ValueError("--bm25 goes by words, and one side here has none: leave it out")
    text = columns_of(given, Path(given.run))["text_column"] or "text"
    own = {"text": text, "name": given.id_column or ""}
    queries = read_collection(given.queries, images=not (of_texts or given.back), **own)
    documents = read_collection(given.collection, images=not of_texts and given.back, **own)
    relevance = read_relevance(Path(given.relevance)) if given.relevance else {}
    place = writable_file(given.out, "found.csv")
    fabric = fabric_on(given.device)
    to_device(net.eval(), fabric)
    readers = input_of(net.preprocess), TextIds(space.look)
    with Terminal() as terminal:
        for note in (*queries.notes, *documents.notes):
            terminal.say(f"note: {note}")
        side = Embedded(net, fabric, Loading(given.batch_size, track=terminal.track), readers)
        found = search(side, queries, documents, given.top, back=given.back)
        for path, reason in side.problems.items():
            terminal.say(f"left out {printable(path)}: {reason}")
        write_found(place, found)
        terminal.say(
            f"{len(found)} queries, {len(documents.names)} documents, the best {given.top} of "
            f"each: {place}"
        )
        ranked = {"network": found}
        if given.bm25:
            ranked["bm25"] = search_words(queries, documents, given.top)
        scores = score_all(ranked, relevance, given.top) if relevance else {}
        if scores:
            columns = list(scores["network"])
            rows = [[name, *(f"{own[c]:.1f}" for c in columns)] for name, own in scores.items()]
            terminal.table("found documents that are relevant, in percent", ["by", *columns], rows)
    if given.json:
        print_json({"found": found, "scores": scores, "problems": side.problems})


def _parser() -> Parser:
    parser = Parser(
        prog="adaptune retrieve",
        description="Find for each query the documents of a collection that belong to it, by a "
        "finished run of --task matching, compared with all of them.",
    )
    parser.add_argument("run", type=str, help="a run's folder, or one with a saved network")
    parser.add_argument(
        "queries",
        nargs="+",
        type=str,
        help="what to search with: of texts tables or .txt files, of images files or folders",
    )
    parser.add_argument(
        "--collection",
        nargs="+",
        required=True,
        type=str,
        metavar="DOCS",
        help="what to search among: tables of texts, .txt files, or folders of these",
    )
    parser.add_argument(
        "--back",
        action="store_true",
        help="search the other way: with what were partners among what had them, as with texts "
        "among images",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=10,
        between=(1, MOST_ANSWERS),
        help="how many documents to give for each query",
    )
    parser.add_argument(
        "--relevance",
        type=str,
        metavar="FILE",
        help="a table query,document[,relevance] by their ids, to score what was found",
    )
    parser.add_argument(
        "--bm25", action="store_true", help="score what words alone would find too, by BM25"
    )
    parser.add_argument("--out", type=str, default="found.csv", help="the CSV to write")
    parser.add_argument(
        "--batch-size", type=int, default=64, between=(1, MOST), help="texts or images at a time"
    )
    parser.add_argument("--text-column", type=str, help="the column of texts, by default text")
    parser.add_argument("--id-column", type=str, help="the column of names, by default id or _id")
    add_device(parser)
    add_json(parser)
    return parser


class Embedded:
    """Reads collections batch by batch and gives their embeddings; ``problems`` by path."""

    def __init__(
        self, net: Network, fabric: Fabric, loading: Loading, readers: tuple[Input, Input]
    ) -> None:
        self.net, self.fabric, self.loading, self.readers = net, fabric, loading, readers
        self.problems: dict[str, str] = {}

    def __call__(
        self, collection: Collection, label: str, *, partners: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Give embeddings (N, E) and the rows of what could be read."""
        reader = StreamReader(collection.examples, self.readers[partners], self.loading)
        for batch in reader.batches(label):
            yield embeddings_of(self.net, batch, self.fabric, partners=partners), batch.index
        lost = reader.problems.items()
        self.problems |= {str(collection.examples[row].path): why for row, why in lost}


def search(
    side: Embedded, queries: Collection, documents: Collection, top: int, *, back: bool = False
) -> Found:
    """Compare all queries with all documents, of which one batch is in memory at a time."""
    asked = list(side(queries, "queries", partners=back))
    if not asked:
        raise ValueError("no query could be read: see what is said of each")
    rows = torch.cat([index for _, index in asked]).tolist()
    nearest = Nearest(torch.cat([own for own, _ in asked]), top)
    for own, index in side(documents, "documents", partners=not back):
        nearest.add(own, index)
    kept = zip(rows, nearest.numbers.tolist(), nearest.scores.tolist(), strict=True)
    return {
        queries.names[row]: [
            (documents.names[number], score) for number, score in zip(numbers, scores, strict=True)
        ]
        for row, numbers, scores in kept
    }


def search_words(queries: Collection, documents: Collection, top: int) -> Found:
    """Find what shares words with queries."""
    index = BM25(one.text or "" for one in documents.examples)
    return {
        name: [(documents.names[number], score) for number, score in index.top(one.text or "", top)]
        for name, one in zip(queries.names, queries.examples, strict=True)
    }


def score_all(
    ranked: Mapping[str, Found], relevance: Mapping[str, Mapping[str, float]], top: int
) -> dict[str, dict[str, float]]:
    """Score every way of searching."""
    names = {
        by: {query: [name for name, _ in own] for query, own in found.items()}
        for by, found in ranked.items()
    }
    return {by: score_found(found, relevance, top) for by, found in names.items()}


def write_found(place: Path, found: Found) -> None:
    """Write a line for each document of each query."""
    with place.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for query, own in found.items():
            for rank, (document, score) in enumerate(own, 1):
                writer.writerow([query, rank, document, f"{score:.6f}"])
