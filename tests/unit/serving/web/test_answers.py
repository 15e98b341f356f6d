"""The choice of a form."""

from __future__ import annotations

import pytest
from facts import missing

from segpipe.serving.limits import RefusedError
from segpipe.serving.web.answers import JSON, PARQUET, PNG, choose_form


@pytest.mark.parametrize(
    ("accept", "num_files", "form"),
    [
        ("", 1, PNG),
        ("", 2, JSON),
        ("*/*", 1, PNG),
        ("image/*", 1, PNG),
        ("application/*", 1, JSON),
        ("application/json", 1, JSON),
        ("Application/JSON; charset=utf-8", 1, JSON),
        ("application/vnd.apache.parquet, application/json;q=0.5", 3, PARQUET),
        ("image/png;q=0.1, application/json;q=0.2", 1, JSON),
        ("image/png;q=0, */*", 1, JSON),
        ("text/html, application/json;q=0.9, */*;q=0.1", 1, JSON),
        ("image/png, */*;q=0.1", 2, JSON),
    ],
)
def test_the_best_form_that_the_client_takes(accept: str, num_files: int, form: str) -> None:
    assert choose_form(accept, num_files) == form


@pytest.mark.parametrize(("accept", "num_files"), [("text/html", 1), ("image/png", 2), ("*/*;q=x", 1), (",;,", 1)])
def test_no_form_is_a_406_that_lists_them(accept: str, num_files: int) -> None:
    with pytest.raises(RefusedError) as refused:
        choose_form(accept, num_files)
    assert refused.value.status == 406
    assert not missing(str(refused.value), accept, JSON, PARQUET)
    assert (PNG in str(refused.value).partition("is none of")[2]) == (num_files == 1)
