"""Says of a file that cannot be read what was looked for, and what is there instead."""

from difflib import get_close_matches
from pathlib import Path

SHOWN = 5


def unreadable(path: Path, error: OSError, *endings: str) -> str:
    """Why a file cannot be read, and the next step.

    Args:
        path: What was asked for.
        error: What the system said.
        endings: Of the files that would do, such as ".csv".
    """
    if isinstance(error, IsADirectoryError):
        bursts = "; a folder of bursts becomes one by forewarn gather" if ".npz" in endings else ""
        return f"is a folder, must be a file{_there(path, endings)}{bursts}"
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"cannot be read: {error.strerror}; see who may read it (`ls -l {path}`)"
    folder = path.parent
    if not folder.is_dir():
        return f"no such file: there is no folder {folder.absolute()}"
    close = get_close_matches(path.name, _names(folder), n=1, cutoff=0.75)
    if close:
        return f"no such file (did you mean {folder / close[0]}?)"
    return f"no such file in {folder.absolute()}{_there(folder, endings)}"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir())
    except OSError:
        return []


def _there(folder: Path, endings: tuple[str, ...]) -> str:
    names = [name for name in _names(folder) if name.endswith(endings)]
    if not names:
        return f", which holds no {' or '.join(endings)}"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f", which holds {', '.join(names[:SHOWN])}{more}"
