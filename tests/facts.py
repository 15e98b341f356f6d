"""What a test says about a message: its facts (file, key, value, what to write), not its sentences."""

import re

WORDS = re.compile(r"'[^']*'|`[^`]*`|\S+")
QUOTES, NUMBER = ("'", "`"), re.compile(r"-?[\d.,]+")
MARKS = re.compile(r"[\d_/=<>{}\[\]*]|\w\.\w|:$")


def missing(text: str, *facts: str) -> list[str]:
    """Gives the facts that a text does not hold, in whatever order and words it tells them."""
    return [fact for fact in facts if not _holds(text, fact)]


def _holds(text: str, fact: str) -> bool:
    if NUMBER.fullmatch(fact):  # not as a part of another number
        return re.search(rf"(?<![\w.]){re.escape(fact)}(?!\w)", text) is not None
    return fact in text


def facts_of(example: str) -> list[str]:
    """Gives the facts of a message as it may read: what is quoted, keys, numbers, paths, and its last noun.

    >>> facts_of("train.epochs: must be a valid integer (got '40')")
    ['train.epochs', "'40'", 'integer']
    """
    words = [word.strip(",;()?") for word in WORDS.findall(example)]
    facts = [word.rstrip(".:") for word in words if word and (word.startswith(QUOTES) or MARKS.search(word))]
    nouns = [word for word in words if re.fullmatch(r"[A-Za-z]{4,}", word)]
    return [*facts, *nouns[-1:]]
