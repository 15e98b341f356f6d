"""Names of any characters: MLflow takes their forms, different ones stay different, and each can be read back."""

from __future__ import annotations

from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name
from properties import holds_for_all

from segpipe.tracking.names import MAX_CHARS, metric_name, picture_name, read_name

# Characters that forms are made of come often.
NAMES = st.text(st.one_of(st.sampled_from("-./ 2fx道é"), st.characters(exclude_categories=["Cs"])), min_size=1)


@holds_for_all(300, name=NAMES)
def test_mlflow_takes_the_form_of_every_name(name: str) -> None:
    for check in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        check(metric_name(name))
    assert len(metric_name(name)) <= MAX_CHARS
    assert picture_name(name).isascii()


@holds_for_all(300, names=st.lists(NAMES, min_size=2, max_size=6, unique=True))
def test_different_names_have_different_forms(names: list[str]) -> None:
    for form in (metric_name, picture_name):
        assert len({form(name) for name in names}) == len(names)


@holds_for_all(300, name=NAMES)
def test_a_form_can_be_read_back(name: str) -> None:
    for form in (metric_name, picture_name):
        taken = form(name)
        assert len(taken) == MAX_CHARS or read_name(taken) == name
