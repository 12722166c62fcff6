"""The page on which people answer what a run asks: which class each of some images is of."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from adaptune.data.answer_table import AnswerTable, ConflictError
from adaptune.data.inputs.image import read_image
from adaptune.data.listing import Example
from adaptune.data.names import printable
from adaptune.data.questions import Questions, name_in_table
from adaptune.serving.files import page_routes

MOST = 16 * 1024
"""The largest body in bytes: an answer names an image and two classes."""

SIDE = 2400
"""The longest side of what is sent of an image, in pixels."""

SHARP = 512
"""The longest side of an image that is sent to the bit; larger ones are packed as JPEG."""


class Desk:
    """What a run asks, and what was answered so far, as it stands on the disk at any moment.

    An image goes by a digest of its name, so a request can name none but those that are asked.

    Args:
        folder: The run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record, self.table = folder / "questions.json", AnswerTable(folder / "questions.csv")

    def asked(self) -> tuple[dict[str, Example], tuple[str, ...]]:
        """Give the images by their digests, and the classes."""
        found = Questions.load(self.record)
        return {digest(one): one for one in found.images}, found.classes

    def state(self) -> dict[str, Any]:
        """Say what is asked and answered, and how to go on."""
        images, classes = self.asked()
        names = {key: name_in_table(one.path) for key, one in images.items()}
        known = self.table.known(set(names.values()), classes, others=True)
        return {
            "run": printable(self.folder),
            "classes": classes,
            "images": [
                {"id": key, "name": name, "label": known.get(name, "")}
                for key, name in names.items()
            ],
            "again": f"adaptune fit --resume --out {shlex.quote(printable(self.folder))}",
        }

    def words(self) -> str:
        """Say how far people have come."""
        state = self.state()
        answered = sum(bool(one["label"]) for one in state["images"])
        return (
            f"{answered} of {len(state['images'])} answered, all in {self.table.file}; go on with: "
            f"{state['again']}"
        )

    def answer(self, key: str, label: str, before: str) -> None:
        """Write one answer into the table, or take it back; it is on the disk then.

        Raises:
            LookupError: If there is no such image or class.
            ConflictError: If another label stands there than was seen.
        """
        images, classes = self.asked()
        if key not in images:
            raise LookupError("The run does not ask about this image any more.")
        if label and label not in classes:
            raise LookupError("There is no such class.")
        self.table.answer(name_in_table(images[key].path), label, before, classes)

    def picture(self, key: str) -> tuple[bytes, str]:
        """Give an image, as a network sees it before it is resized, and its media type.

        Raises:
            LookupError: If it is none of those that are asked about.
            OSError: If it cannot be read.
        """
        images, _ = self.asked()
        if key not in images:
            raise LookupError("The run does not ask about this image any more.")
        one = images[key]
        image = Image.fromarray(read_image(one.path, one.part).permute(1, 2, 0).numpy())
        image.thumbnail((SIDE, SIDE))
        kind = "PNG" if max(image.size) <= SHARP else "JPEG"
        raw = io.BytesIO()
        image.save(raw, kind, **({} if kind == "PNG" else {"quality": 92}))
        return raw.getvalue(), f"image/{kind.lower()}"


def digest(example: Example) -> str:
    """Give an image's name in addresses.

    >>> digest(Example(Path("/photos/1.png"), ""))
    'dae6e2591fa8615a'
    """
    return hashlib.sha256(name_in_table(example.path).encode()).hexdigest()[:16]


def labelling_app(desk: Desk) -> Starlette:
    """Make the app of a run's page.

    Raises:
        ValueError: If the run asks nothing, or its questions or answers cannot be read.
    """
    if not desk.state()["images"]:
        raise ValueError(
            f"{desk.folder} asks for no labels now: a run of a method that asks, such as adaptune "
            "fit --method lftl, stops where it wants some; one that an earlier version stopped "
            "asks again with --resume"
        )

    async def state(request: Request) -> Response:
        del request
        try:
            return JSONResponse(await run_in_threadpool(desk.state))
        except (ValueError, OSError) as error:
            return PlainTextResponse(str(error), 500)

    async def answer(request: Request) -> Response:
        try:
            said = json.loads(await request.body())
            key, label, before = (said[name] for name in ("id", "label", "before"))
            if not all(isinstance(one, str) for one in (key, label, before)):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            return PlainTextResponse("An answer is {id, label, before}, each a text.", 400)
        try:
            await run_in_threadpool(desk.answer, key, label, before)
        except ConflictError as error:
            return JSONResponse({"label": error.label}, 409)
        except LookupError as error:
            return PlainTextResponse(str(error.args[0]), 404)
        except (ValueError, OSError) as error:
            return PlainTextResponse(str(error), 500)
        return JSONResponse({"label": label})

    async def picture(request: Request) -> Response:
        try:
            raw, kind = await run_in_threadpool(desk.picture, request.path_params["id"])
        except LookupError as error:
            return PlainTextResponse(str(error.args[0]), 404)
        except (ValueError, OSError) as error:
            return PlainTextResponse(str(error), 422)
        return Response(raw, media_type=kind)

    return Starlette(
        routes=[
            *page_routes("label"),
            Route("/state", state),
            Route("/answer", answer, methods=["POST"]),
            Route("/image/{id}", picture),
        ]
    )
