"""Pictures of the images of a test set that a network of places did worst on, and of usual ones."""

from __future__ import annotations

from collections.abc import Mapping

from adaptune.data.file_rows import FileRows
from adaptune.data.inputs.image import read_image
from adaptune.networks.network import Network
from adaptune.report.masks import draw_beside
from adaptune.results.row import HOME
from adaptune.results.run import Pictured
from adaptune.results.score import Scores
from adaptune.runs.folder import Run
from adaptune.runs.masks import MaskMaker
from adaptune.runs.setup import Session


def draw_ranked(
    run: Run, net: Network, training: Session, scores: Mapping[str, Scores]
) -> dict[str, list[Pictured]]:
    """Draw what was predicted beside what is true, of the images that scores rank, by test set.

    They go into the folder of the run; only images in files are drawn, and those that cannot be
    read any more are left out.
    """
    drawn: dict[str, list[Pictured]] = {}
    if not run.writes:
        return drawn
    data = training.data
    for at, (test, one) in enumerate(scores.items()):
        rows = data.sets["test"] if test == HOME else data.ood[test]
        ranked = one.detail.get("ranked")
        if not ranked or not isinstance(rows, FileRows):
            continue
        maker, own = MaskMaker(net, training.fabric, training.task.tiles), []
        for kind, chosen in ranked.items():
            for number, (row, value) in enumerate(chosen):
                example = rows.examples[row]
                try:
                    image = read_image(example.path, example.part)
                    truth = rows.meaning.read(example)
                except OSError:
                    continue
                picture = draw_beside(image, truth, maker(image), len(data.classes))
                file = run.save_picture(picture, f"{at}-{kind}-{number}.jpg")
                own.append(Pictured(str(example.path), kind, value, file))
        drawn[test] = own
    return drawn
