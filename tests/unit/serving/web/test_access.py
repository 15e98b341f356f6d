"""Who may ask."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from facts import missing

from segpipe.errors import ServingError
from segpipe.serving.limits import RefusedError
from segpipe.serving.web.access import TOKEN, WEBHOOK_SECRET, Access

LONG = "a token of some length"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_the_loopback_needs_no_token(host: str) -> None:
    assert Access.of(host, {}) == Access(is_loopback=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_another_address_needs_a_token(host: str) -> None:
    with pytest.raises(ServingError) as refused:
        Access.of(host, {})
    assert not missing(str(refused.value), host, f"export {TOKEN}=")
    assert Access.of(host, {TOKEN: LONG}) == Access(is_loopback=False, token=LONG)


@pytest.mark.parametrize("token", ["short", "with a line\nfeed in the middle", "ä" * 20])
def test_a_weak_token_is_refused(token: str) -> None:
    with pytest.raises(ServingError, match="16"):
        Access.of("127.0.0.1", {TOKEN: token})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8000"}, 401),
        ({"host": "127.0.0.1", "authorization": LONG}, 401),
        ({"host": "127.0.0.1", "authorization": f"Basic {LONG}"}, 401),
        ({"host": "127.0.0.1", "authorization": f"Bearer {LONG}x"}, 401),
        ({"host": "127.0.0.1", "authorization": "Bearer ä"}, 401),
        ({"host": "evil.example"}, 401),
        ({"host": "127.0.0.1:1", "origin": "http://127.0.0.1:2", "authorization": f"Bearer {LONG}"}, 403),
        ({"host": "127.0.0.1:1", "origin": "null", "authorization": f"Bearer {LONG}"}, 403),
    ],
)
def test_a_stranger_is_refused(headers: dict[str, str], status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        Access(is_loopback=True, token=LONG).check("/predict", headers)
    assert refused.value.status == status


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::2]:80", "", "192.168.1.2"])
def test_without_a_token_the_host_must_be_the_loopback(host: str) -> None:
    with pytest.raises(RefusedError) as refused:
        Access(is_loopback=True).check("/healthz", {"host": host})
    assert refused.value.status == 421
    assert TOKEN in refused.value.reason
    Access(is_loopback=True, token=LONG).check("/predict", {"host": host, "authorization": f"Bearer {LONG}"})


@pytest.mark.parametrize("host", ["localhost:8000", "[::1]:8000", "127.0.0.1"])
def test_the_owner_is_not(host: str) -> None:
    Access(is_loopback=True, token=LONG).check("/predict", {"host": host, "authorization": f"bearer {LONG}"})
    Access(is_loopback=True).check("/predict", {"host": host, "origin": f"http://{host}"})
    Access(is_loopback=False, token=LONG).check(
        "/predict", {"host": "example.org", "authorization": f"Bearer {LONG}", "origin": "https://example.org"}
    )


def test_a_webhook_must_be_signed_with_the_secret() -> None:
    access = Access.of("127.0.0.1", {WEBHOOK_SECRET: "both know"})
    body = b'{"entity": "model_version_alias"}'
    headers = {"x-mlflow-delivery-id": "7", "x-mlflow-timestamp": "1700000000"}
    digest = hmac.digest(b"both know", b"7.1700000000." + body, hashlib.sha256)
    signed = {**headers, "x-mlflow-signature": "v1," + base64.b64encode(digest).decode()}
    access.check_webhook(signed, body)
    for wrong_headers, wrong_body in (
        (headers, body),
        (signed, body + b" "),
        ({**signed, "x-mlflow-timestamp": "1"}, body),
    ):
        with pytest.raises(RefusedError) as refused:
            access.check_webhook(wrong_headers, wrong_body)
        assert refused.value.status == 401
    with pytest.raises(RefusedError, match=WEBHOOK_SECRET) as refused:
        Access(is_loopback=True).check_webhook(signed, body)
    assert refused.value.status == 404
