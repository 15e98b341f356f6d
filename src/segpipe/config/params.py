"""The whole of `params.yaml`: a section for each stage, which carries the stage's name.

An unknown key is an error, and so is a value out of its range. A stage loads its own section
(`segpipe.config.reading.load_section`); `segpipe check` loads all, and reports all problems together.
"""

from pathlib import Path

from pydantic import Field

from segpipe.config.class_weights import ClassWeights
from segpipe.config.download import Download
from segpipe.config.evaluate import Evaluate
from segpipe.config.preprocess import Preprocess
from segpipe.config.reading import PARAMS_FILE, keys_at, read_yaml, validate
from segpipe.config.register import Register
from segpipe.config.section import Section
from segpipe.config.train import Train


class Config(Section):
    """The whole of `params.yaml`."""

    download: Download
    preprocess: Preprocess
    class_weights: ClassWeights
    train: Train
    evaluate: Evaluate
    register_: Register = Field(alias=Register.NAME)


def load_config(path: Path = PARAMS_FILE) -> Config:
    """Reads and checks a parameter file.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds unknown keys or impossible values: all in one message.
    """
    document = read_yaml(path, f"must hold the sections {', '.join(keys_at(Config, []))}")
    return validate(Config, document, f"{path}: ")
