"""What is in a folder of class folders."""

import dataclasses
import os

from efficientnetv2_tf.data.sources import DataError

# Endings that are read, in any case, and the format that each promises.
ENDINGS = {".bmp": "BMP", ".gif": "GIF", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
EXPLANATION = ".explain.png"  # what --mode=predict --explain draws beside a picture, behind that one's name
_IGNORED = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # as are names that begin with a dot, and explanations
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}


@dataclasses.dataclass(frozen=True)
class Listing:
    """What is in a folder of class folders.

    Attributes:
        folder: its path.
        classes: from a class's name to the paths of its pictures, relative to `folder`; all sorted by code point.
        others: paths of files that are in no class or have another ending, sorted, relative to `folder`.
    """

    folder: str
    classes: dict[str, list[str]]
    others: list[str]


def list_classes(folder):
    """Walks a folder: each folder in it is a class, with all that is below. Links are followed, hidden files are not.

    Args:
        folder: path.

    Returns:
        A `Listing`, whatever order the file system has.

    Raises:
        DataError: there are no class folders, or they cannot be read, or have names that are not UTF-8.
    """
    classes, others = {}, []
    for path, is_folder in entries(folder):
        if is_folder:
            classes[path] = []
            for file in _walk(folder, path):
                (classes[path] if ending(file) in ENDINGS else others).append(file)
            classes[path].sort()
        else:
            others.append(path)
    listing = Listing(folder, dict(sorted(classes.items())), sorted(others))
    _check_names(listing)
    _check_classes(listing)
    return listing


def entries(folder, below=""):
    """What is in a folder and not hidden, without the explanations that were drawn into it.

    Args:
        folder: path.
        below: path of a folder in it.

    Yields:
        (path relative to `folder`, whether it is a folder).

    Raises:
        DataError: the folder cannot be read.
    """
    prefix = f"{below}/" if below else ""
    try:
        with os.scandir(os.path.join(folder, below)) as found:
            for entry in found:
                name = entry.name
                if not (name.startswith(".") or name in _IGNORED or name.endswith(EXPLANATION)):
                    # A link in a circle is an error for `entry.is_dir`, and only no folder for `os.path.isdir`.
                    is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
                    yield prefix + name, is_folder
    except OSError as error:
        raise DataError(f"The folder {os.path.join(folder, below)} cannot be read: {error.strerror}.") from error


def ending(path):
    """The ending of a name, in lower case and with its dot."""
    return path[path.rfind(".") :].lower()


def some(names, most=5):
    """The first names, as text."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _walk(folder, below, parents=frozenset()):
    """Paths of the files under `below`, relative to `folder`."""
    place = os.path.realpath(os.path.join(folder, below))
    if place in parents:  # a link to a folder that holds it
        return
    for path, is_folder in entries(folder, below):
        if is_folder:
            yield from _walk(folder, path, parents | {place})
        else:
            yield path


def _check_names(listing):
    """Names become tensors and text files, which are UTF-8."""
    names = [listing.folder, *listing.classes, *(path for paths in listing.classes.values() for path in paths)]
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        wrong = [os.fsencode(name) for name in names if any("\ud800" <= letter <= "\udfff" for letter in name)]
        raise DataError(
            f"{listing.folder!r}: expected names in UTF-8. Received: {some(wrong)}. Rename them, for example with the "
            "program convmv."
        ) from error


def _check_classes(listing):
    if not listing.classes:
        pictures = [path for path in listing.others if ending(path) in ENDINGS]
        held = f"pictures without a class: {some(pictures)}" if pictures else some(listing.others) or "nothing"
        raise DataError(f"{listing.folder} should hold a folder of pictures for each class. It holds {held}.")
    for name, paths in listing.classes.items():
        if name.lower() in _SPLIT_NAMES and paths and all(os.path.dirname(path) != name for path in paths):
            raise DataError(
                f"{listing.folder}/{name} holds folders, as a split does, and no pictures, as a class would. Without a "
                "train/ beside it, name the folders with data.train_split and data.eval_split."
            )
