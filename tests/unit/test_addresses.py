"""Which parts of an address may be shown, in any text, and the login that it holds."""

import pytest

from segpipe.addresses import Login, redact, spare_loopback, split_login
from segpipe.errors import TrackingError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://example.org/a/b.zip", "https://example.org/a/b.zip"),
        ("https://me:secret@example.org/b.zip", "https://example.org/b.zip"),
        ("https://me:se@cret@example.org/b.zip", "https://example.org/b.zip"),
        ("https://me:p%40ss:w/rd@example.org/b.zip", "https://example.org/b.zip"),
        ("https://me:p#a?b/c@example.org/b.zip", "https://example.org/b.zip"),
        ("https://me:it's@example.org:80/b.zip", "https://example.org:80/b.zip"),
        ("https://token@example.org", "https://example.org"),
        ("https://example.org:8080/@scope/b.zip", "https://example.org:8080/@scope/b.zip"),
        ("http://[::1]:5000/api", "http://[::1]:5000/api"),
        ("https://example.org/b.zip?X-Amz-Signature=secret", "https://example.org/b.zip?..."),
        ("https://example.org?token=secret", "https://example.org?..."),
        ("https://example.org/b.zip#secret", "https://example.org/b.zip?..."),
        ("http://me:secret@127.0.0.1:5000/#/models/a/versions/1", "http://127.0.0.1:5000/#/models/a/versions/1"),
        ("ssh://me:secret@server/data", "ssh://server/data"),
        ("s3://bucket/key@v1", "s3://bucket/key@v1"),
        ("postgresql+psycopg2://me:secret@host/db?password=secret", "postgresql+psycopg2://host/db?..."),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("git@example.org:team/project.git", "git@example.org:team/project.git"),
        ("models:/streets@champion", "models:/streets@champion"),
        ("data/folder", "data/folder"),
    ],
)
def test_an_address(address: str, shown: str) -> None:
    assert redact(address) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach 'https://a:b@h/x' (https://c:d@i?e=f).", "cannot reach 'https://h/x' (https://i?...)."),
        ("with url: /bucket/key?X-Amz-Signature=secret (Caused by", "with url: /bucket/key?... (Caused by"),
        ("{source: https://a:b@h, sha256: 0}", "{source: https://h, sha256: 0}"),
        ('{"url": "https://a:b@h"}', '{"url": "https://h"}'),
        ("is it a/b? yes: c=d", "is it a/b? yes: c=d"),
        (
            "they run at http://h:1, http://h:2; or (tcp://h:3): no",
            "they run at http://h:1, http://h:2; or (tcp://h:3): no",
        ),
        ("https://me:pass word@host/x", "https://... word@host/x"),
    ],
)
def test_a_text(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_no_error_of_ours_holds_a_secret() -> None:
    error = TrackingError("https://me:secret@host is down")
    assert "secret" not in str(error)
    assert "secret" not in repr(error)


@pytest.mark.parametrize(
    ("address", "login"),
    [
        ("https://me:p%40ss%3Aw%2Frd@host:1/mlflow", Login("https://host:1/mlflow", "me", "p@ss:w/rd")),
        ("https://me@host", Login("https://host", "me", "")),
        ("http://127.0.0.1:5000", Login("http://127.0.0.1:5000")),
        ("http://[::1]:5000/", Login("http://[::1]:5000/")),
    ],
)
def test_the_login_of_an_address(address: str, login: Login) -> None:
    assert split_login(address) == login


@pytest.mark.parametrize(
    "address", ["https://me:p%40ss:w/rd@host", "https://me:se/cret@host", "http://", "http://h:x/"]
)
def test_an_unreadable_address_is_shown_without_its_secret(address: str) -> None:
    with pytest.raises(ValueError, match=r"write https://USER:PASSWORD@HOST") as raised:
        split_login(address)
    assert "rd" not in str(raised.value).replace("PASSWORD", "").replace("password", "")


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "example.org"}, "example.org,127.0.0.1,localhost"),
        ({"no_proxy": "localhost,example.org", "NO_PROXY": "other"}, "localhost,example.org,127.0.0.1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_no_request_to_this_machine_goes_to_a_proxy(given: dict[str, str], hosts: str) -> None:
    variables = {"http_proxy": "http://proxy:3128", **given}
    variables |= spare_loopback(variables)
    assert variables["no_proxy"] == variables["NO_PROXY"] == hosts
    assert spare_loopback(variables)["no_proxy"] == hosts
