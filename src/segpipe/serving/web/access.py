"""Who may ask: the check of Host and Origin on the loopback, the token elsewhere, the signature of MLflow's webhook."""

import base64
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from segpipe.errors import ServingError
from segpipe.serving.limits import RefusedError

TOKEN = "SEGPIPE_SERVE_TOKEN"
WEBHOOK_SECRET = "SEGPIPE_SERVE_WEBHOOK_SECRET"
MIN_TOKEN_LENGTH = 16
MISDIRECTED = HTTPStatus.MISDIRECTED_REQUEST
# These hold nothing that is worth a token: probes of Kubernetes send none, the page asks for one, MLflow signs.
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/hooks/mlflow"})


@dataclass(frozen=True)
class Access:
    """The rules.

    Attributes:
        is_loopback: whether only this machine can connect.
        token: that each request must bring; None for none, and then `Host` must name the loopback.
        webhook_secret: that MLflow shares; None refuses its calls.
    """

    is_loopback: bool
    token: str | None = None
    webhook_secret: str | None = None

    @staticmethod
    def of(host: str, environment: Mapping[str, str]) -> "Access":
        """Chooses the rules for an address to listen on.

        Raises:
            ServingError: other machines could connect, and there is no token.
        """
        token = environment.get(TOKEN) or None
        if token is not None and (len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable()):
            raise ServingError(f"{TOKEN} must have {MIN_TOKEN_LENGTH} plain characters or more; {_make_token()}")
        is_loopback = is_loopback_name(host)
        if not is_loopback and token is None:
            what = f"--host {host} lets other machines connect, and {TOKEN} is not set"
            raise ServingError(f"{what}; {_make_token()}")
        return Access(is_loopback, token, environment.get(WEBHOOK_SECRET) or None)

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Checks a request before anything else is read of it.

        Args:
            path: of the request.
            headers: by names in small letters.

        Raises:
            RefusedError: 401, 403 or 421.
        """
        host = headers.get("host", "")
        if self.is_loopback and self.token is None and not is_loopback_name(_name_of(host)):
            # A page of a foreign site whose name was made to resolve to the loopback sends its own name. It knows no
            # token; and with one, a proxy may pass the name on by which clients know it.
            reason = f"the header Host names another machine; ask for http://127.0.0.1, or set {TOKEN}"
            raise RefusedError(MISDIRECTED, reason)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise RefusedError(HTTPStatus.FORBIDDEN, "a web page of another origin may not ask this service")
        if self.token is None or path in OPEN_PATHS:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            reason = f"send the header `Authorization: Bearer TOKEN`, TOKEN being the service's {TOKEN}"
            raise RefusedError(HTTPStatus.UNAUTHORIZED, reason)

    def require_webhook(self) -> str:
        """Gives the secret of MLflow's webhook; is asked before the body of a call is read.

        Raises:
            RefusedError: 404, the service has none.
        """
        if self.webhook_secret is None:
            raise RefusedError(
                HTTPStatus.NOT_FOUND, f"webhooks are off; set {WEBHOOK_SECRET} and start the service again"
            )
        return self.webhook_secret

    def check_webhook(self, headers: Mapping[str, str], body: bytes) -> None:
        """Checks that MLflow has signed a call.

        Raises:
            RefusedError: 404 where the service has no secret, 401 where the signature is another.
        """
        secret = self.require_webhook()
        signed = b".".join(
            [headers.get(name, "").encode() for name in ("x-mlflow-delivery-id", "x-mlflow-timestamp")] + [body]
        )
        digest = hmac.digest(secret.encode(), signed, "sha256")
        expected = b"v1," + base64.b64encode(digest)
        if not hmac.compare_digest(expected, headers.get("x-mlflow-signature", "").encode()):
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED, "the signature is not that of MLflow's webhook with this secret"
            )


def is_loopback_name(name: str) -> bool:
    """Whether a host's name or address is this machine's loopback."""
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """Gives the header `Host` without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _make_token() -> str:
    return f'make one: export {TOKEN}="$(openssl rand -hex 32)"'
