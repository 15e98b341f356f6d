"""The folder of a page that a command writes: it replaces an earlier page and nothing else."""

from fnmatch import fnmatch
from pathlib import Path

from segpipe.errors import SegpipeError


def refuse_foreign(output: Path, marker: str, *others: str) -> None:
    """Refuses to write a page that would replace anything other than an earlier page of the same kind.

    Args:
        output: the folder to write.
        marker: the file that every page of this kind has.
        others: patterns of its other files, at the folder's top.

    Raises:
        SegpipeError: it is a file, the working directory, or a folder that holds something else.
    """
    names = {path.name for path in output.iterdir()} if output.is_dir() else set()
    is_ours = marker in names and all(any(fnmatch(name, pattern) for pattern in (marker, *others)) for name in names)
    is_foreign = output.exists() and (not output.is_dir() or (bool(names) and not is_ours))
    if is_foreign or output.resolve() == Path.cwd():
        raise SegpipeError(f"{output} exists and holds files of your own; name another folder by --output")
