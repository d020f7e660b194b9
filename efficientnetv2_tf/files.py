"""Files that are either whole or not there."""

import contextlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Gives a temporary path to write to, and renames it to `path` when the block ends without an error.

    Args:
        path: of the file to make or replace; its folder is made.

    Yields:
        A `pathlib.Path` in the same folder with the same ending.

    Example:
        >>> with replacing("summary.json") as temporary:
        ...     temporary.write_text("{}")
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would keep colleagues out
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
