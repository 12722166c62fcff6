"""Names that domains may have."""

from __future__ import annotations

from collections.abc import Collection, Iterable

OWN = ("id", "train", "val", "test")
"""What the training domain's own sets are called in results and tables, in either case."""


def refuse_taken(names: Iterable[str], taken: Collection[str] = ()) -> None:
    """Refuse names that another set has.

    Raises:
        ValueError: If a name is that of one of the training domain's own sets, or ``taken``.

    >>> refuse_taken(["sketch"])
    """
    for name in names:
        if name.casefold() in OWN:
            raise ValueError(
                f"no domain can be called {name!r}, since {', '.join(OWN)} are the names of the "
                "training domain's own sets: give it another name"
            )
        if name in taken:
            raise ValueError(
                f"two test sets are called {name!r}: give every domain a name of its own"
            )
