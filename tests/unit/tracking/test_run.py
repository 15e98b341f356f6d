"""Parameters as MLflow takes them."""

from segpipe.tracking.run import flatten


def test_flatten_gives_dotted_names_and_text() -> None:
    params = {"train": {"model": {"name": "unet", "options": {}}, "crop": [1, 2], "ema": None}, "seed": 0, "rate": 1e-3}
    assert flatten(params) == {
        "train.model.name": "unet",
        "train.crop": "[1, 2]",
        "train.ema": "None",
        "seed": "0",
        "rate": "0.001",
    }


def test_flatten_nothing() -> None:
    assert flatten({}) == {}
