"""What a test says about a message: its facts (file, key, value, what to write), not its sentences."""


def missing(text: str, *facts: str) -> list[str]:
    """Gives the facts that a text does not hold, in whatever order and words it tells them."""
    return [fact for fact in facts if fact not in text]
