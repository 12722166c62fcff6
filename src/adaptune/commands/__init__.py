"""The command line: one command a file, found by its name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from adaptune.runtime.memory import keep_freed_memory
from adaptune.runtime.wording import of_images, worded

COMMANDS = {
    "fit": "take a pretrained network to your images with one method",
    "search": "find a method's hyper-parameters on ID validation",
    "compare": "run several methods over several seeds and domains, and say who wins",
    "evaluate": "measure a finished run on more data",
    "choose": "say which of several finished runs to take for images without labels",
    "predict": "label image files with a finished run, into a CSV",
    "retrieve": "find what of a collection belongs to queries, by a run of pairs",
    "label": "answer in a browser what a run asks people",
    "try": "show a finished run images in a browser, and see what it says",
    "stream": "label images as they come, adapting to them without labels",
    "convert": "convert a network's batch norms, for your own training loop",
    "export": "write a finished run's network for other software, such as ONNX",
    "push": "write a finished run into a folder or a repository for others",
    "pull": "bring a run that others pushed into a folder",
    "write": "write texts like a few examples with a language model, for runs to learn from",
    "ask": "ask a language model questions, and score its answers",
    "report": "write the HTML page of a run or a comparison again",
    "methods": "list the methods, what they do and what can be set",
    "doctor": "say what is wrong with data and batch norms before you train",
    "demo": "compare ft, lp-ft and daft on two real domains, offline",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; give its exit code.

    0 is done, 1 failed with a message, 2 bad arguments, 75 waits for labels, 130 or 143 stopped.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"adaptune {version('adaptune')}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        print(f"adaptune: no command {name!r}\n\n{_help()}", file=sys.stderr)
        return 2
    with of_images():
        return _run(name, rest, debug=debug)


def _run(name: str, words: Sequence[str], *, debug: bool) -> int:
    """Run a command; give its exit code."""
    try:
        with keep_freed_memory():
            importlib.import_module(f"adaptune.commands.{name}").run(words)
    except Exception as error:
        if debug:
            raise
        print(f"adaptune {name}: {worded(_said(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"adaptune {name}: {stopped or 'stopped by Ctrl-C'}", file=sys.stderr)
        return getattr(stopped, "code", 130)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    return 0


def _said(error: Exception) -> str:
    """Say what failed; an error that no one foresaw says that it is ours, not the user's."""
    kind = type(error).__name__
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return str(error) or kind
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":  # torch's own
        said = f" ({error})" if str(error) else ""
        return f"there is not enough memory: give a smaller --batch-size or --image-size{said}"
    if isinstance(error, ImportError):
        return f"{error}: a package is missing or broken, so install adaptune again"
    return f"{kind}: {error}. This is a bug in adaptune: run again with --debug and report it"


def _help() -> str:
    lines = [f"  {name:9} {said}" for name, said in COMMANDS.items()]
    return "\n".join(
        [
            "usage: adaptune COMMAND ...",
            "",
            "Take a pretrained network to a new domain without wrecking what it already knows.",
            "",
            *lines,
            "",
            "adaptune COMMAND --help says more. --debug shows where an error came from.",
        ]
    )
