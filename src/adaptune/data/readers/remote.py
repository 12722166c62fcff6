"""Places in remote stores: folders, tars and tables of objects, listed without reading images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, cast

from adaptune.data.files import Passed, is_image, is_passed
from adaptune.data.listing import Example, Listing
from adaptune.data.names import printable, sort_key
from adaptune.data.object_cache import object_cache
from adaptune.data.objects import StoredObject, list_objects, read_part
from adaptune.data.ranged_file import opened_by_ranges
from adaptune.data.readers.folder import is_flat, read_flat, read_folder
from adaptune.data.readers.manifest import SUFFIXES, read_manifest
from adaptune.data.readers.mask_tars import scenes_of
from adaptune.data.readers.tars import Shard, read_shard, samples_of
from adaptune.data.words import address_of
from adaptune.runtime.files import write_atomically


def read_remote(place: Path, name: str, *, flat: bool = False) -> list[Listing]:
    """List what lies at a place of a store, as if it were on disk: folders, tars or a table.

    A store is asked for names, sizes and versions, page by page; of tars the headers are read and
    kept, a table is read whole, no image at all. Paths of a table are below its own folder.

    Args:
        place: The address, as a path.
        name: What the domain is called.
        flat: Whether a folder of images without class folders is taken, labelled "".

    Raises:
        ValueError: If nothing is there, the store gives no answer, or as the readers of disks.
    """
    objects = _objects(place)
    if place.suffix.lower() in SUFFIXES:
        return _tabled(place, name, objects)
    passed = Passed()
    shards = _shards(place, objects, passed)
    if shards:
        return [samples_of(place, name, shards, passed)]
    tree = ObjectTree(place, objects)
    if flat and is_flat(place, tree):
        return [tree.located(read_flat(place, name, tree))]
    return [tree.located(read_folder(place, name, tree))]


def read_remote_scenes(place: Path, name: str) -> Listing:
    """List the scenes of tars in a store.

    Raises:
        ValueError: If there are none, or the store gives no answer.
    """
    passed = Passed()
    shards = _shards(place, _objects(place), passed)
    if not shards:
        raise ValueError(
            f"{printable(address_of(place))} holds no tars: scenes in a remote store are read from "
            "tars with an image and its mask under one name, so pack them"
        )
    return scenes_of(place, name, shards, passed)


class ObjectTree:
    """Objects as the folders that their names spell."""

    def __init__(self, root: Path, objects: Iterable[StoredObject]) -> None:
        self.objects = {one.path: one for one in objects}
        self.below: dict[Path, dict[str, bool]] = {root: {}}
        for path in self.objects:
            above, is_folder = path, False
            while above != root:
                known = self.below.setdefault(above.parent, {})
                if above.name in known:
                    break
                known[above.name] = is_folder
                above, is_folder = above.parent, True

    def folders_in(self, root: Path, passed: Passed) -> list[Path]:
        """List the folders in one."""
        found = []
        for name, is_folder in self.below[root].items():
            if is_passed(name):
                passed.leave(name)
            elif is_folder:
                found.append(root / name)
        return sorted(found, key=sort_key)

    def images_below(self, folder: Path, passed: Passed) -> list[Path]:
        """List what is called an image in a folder, however deep."""
        files: list[Path] = []
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            for name, is_folder in self.below[here].items():
                if is_passed(name):
                    passed.leave(name)
                elif is_folder:
                    waiting.append(here / name)
                elif is_image(name):
                    files.append(here / name)
                else:
                    passed.other(name)
        return sorted(files, key=sort_key)

    def images_in(self, folder: Path) -> list[Path]:
        """List what is called an image right in a folder."""
        inside = self.below[folder].items()
        return [
            folder / name
            for name, is_folder in inside
            if not is_folder and is_image(name) and not is_passed(name)
        ]

    def located(self, listing: Listing) -> Listing:
        """Say of each image which object it is; one that a table alone knows stays a mere path."""
        return replace(listing, examples=tuple(map(self._located, listing.examples)))

    def _located(self, example: Example) -> Example:
        found = self.objects.get(example.path)
        return example if found is None else replace(example, part=found.part)


def _objects(place: Path) -> list[StoredObject]:
    """List a place, of a table the folder that it lies in.

    Raises:
        ValueError: If nothing is there.
    """
    objects = list_objects(place.parent if place.suffix.lower() in SUFFIXES else place)
    if not objects:
        raise ValueError(
            f"nothing lies at {printable(address_of(place))}: expected a folder of class folders, "
            "a tar, a folder of tars or a table"
        )
    return objects


def _shards(place: Path, objects: Sequence[StoredObject], passed: Passed) -> list[Shard]:
    """Read the headers of the tars that lie right in a place, in the order of their names."""
    files = [
        one
        for one in objects
        if one.path.suffix == ".tar"
        and (one.path == place or (one.path.parent == place and not is_passed(one.path.name)))
    ]
    return [_shard(one, passed) for one in sorted(files, key=lambda one: sort_key(one.path))]


def _shard(one: StoredObject, passed: Passed) -> Shard:
    with opened_by_ranges(one.part) as opened:
        shard = read_shard(one.path, passed, cast(IO[bytes], opened))
    shard.images = {name: replace(part, version=one.version) for name, part in shard.images.items()}
    return shard


def _tabled(place: Path, name: str, objects: Sequence[StoredObject]) -> list[Listing]:
    """List the images of a table, by a copy of it on this machine."""
    tree = ObjectTree(place.parent, objects)
    found = tree.objects.get(place)
    if found is None:
        raise ValueError(f"no manifest at {printable(address_of(place))}")
    try:
        table = read_part(found.part)
    except OSError as error:
        raise ValueError(str(error)) from error
    kept = object_cache()
    file = kept.file(kept.key(address_of(place), found.version, 0, -1))
    file = file.with_name(file.name + PurePosixPath(place.name).suffix)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, table, forced=False)
        listings = read_manifest(file, name, folder=place.parent)
    except ValueError as error:
        raise ValueError(str(error).replace(str(file), address_of(place))) from error
    finally:
        file.unlink(missing_ok=True)
    return [tree.located(one) for one in listings.values()]
