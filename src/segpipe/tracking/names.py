"""Turns the names of classes, samples and parameters into names that MLflow accepts, different for different names.

MLflow refuses most punctuation, and names that are not a normal path (`a//b`, `./x`). Accepted names stay as they are,
in every script. In any other name each refused character becomes `--CODEPOINT-`, in hexadecimal digits.
"""

import hashlib
import posixpath
import re

ESCAPE_MARK = "--"
FINAL_PREFIX = "final_"  # with SPLIT/METRIC: a score of the evaluation, in a run
MAX_CHARS = 160  # MLflow's limit is 250; a picture's file name, to which it adds, may have 255 bytes


def metric_name(name: str) -> str:
    """Gives a name's form in a metric, a tag or a parameter: different for different names.

    >>> metric_name("traffic sign"), metric_name("道路"), metric_name("a//b")
    ('traffic sign', '道路', 'a--2f---2f-b')
    """
    return _one_to_one(name, re.UNICODE)


def picture_name(name: str) -> str:
    """Gives a name's form as the key of a picture, which must be ASCII: different for different names."""
    return _one_to_one(name, re.ASCII)


def _one_to_one(name: str, script: re.RegexFlag) -> str:
    is_taken = re.fullmatch(r"[\w.\-/ ]+", name, script) is not None
    is_own_path = posixpath.normpath(name) == name and not name.startswith(("/", "..")) and name != "."
    if is_taken and is_own_path and ESCAPE_MARK not in name:
        taken = name
    else:
        # Each character of the mark is replaced too, so no other name gives the same result.
        taken = re.sub(r"[^\w ]", lambda found: f"{ESCAPE_MARK}{ord(found.group()):x}-", name, flags=script)
    if len(taken) <= MAX_CHARS:
        return taken
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{taken[: MAX_CHARS - len(digest) - len(ESCAPE_MARK) - 1]}{ESCAPE_MARK}x{digest}"


def read_name(taken: str) -> str:
    """Reverses `metric_name`; of a name that was too long, gives the beginning."""
    return re.sub(rf"{ESCAPE_MARK}([0-9a-f]+)-", lambda found: chr(int(found.group(1), 16)), taken)
