"""What a page in a browser on the same machine, or anybody who reaches the ports, may try on the services."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import httpx
from integration.services import Services
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

EVIL_NAME = "evil"
FOREIGN = "http://evil.example"
JSON = {"Content-Type": "application/json"}
# A browser sends such a request to any server without asking it first.
SIMPLE = {"Content-Type": "text/plain"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


@dataclass(frozen=True)
class Attack:
    """A request that must be refused."""

    name: str
    method: str
    address: str
    headers: dict[str, str]
    body: Any = None


def _basic(login: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def attacks_on_prefect(services: Services, command: str) -> list[Attack]:
    """Requests that would run a command on the machine of the workers, and others that only look."""
    port, deployment = services.prefect_port, services.request("GET", "/deployments/name/retrain/on-demand")["id"]
    api = f"http://127.0.0.1:{port}/api"
    run = f"{api}/deployments/{deployment}/create_flow_run"
    body = {"state": {"type": "SCHEDULED"}, "job_variables": {"command": command}}
    rebound = {"Host": f"evil.example:{port}", "Origin": f"{FOREIGN}:{port}"}
    return [
        Attack("a stranger without an origin", "POST", run, JSON, body),
        Attack("a foreign page", "POST", run, {**JSON, "Origin": FOREIGN}, body),
        Attack("a page of a file", "POST", run, {**JSON, "Origin": "null"}, body),
        Attack("a page of another port", "POST", run, {**JSON, "Origin": "http://127.0.0.1:3000"}, body),
        Attack("a form of a foreign page", "POST", run, {**SIMPLE, "Origin": FOREIGN}, body),
        Attack("a form without an origin", "POST", run, SIMPLE, body),
        Attack("a name that leads here", "POST", run, {**JSON, **rebound}, body),
        Attack("a name that leads here, for a token", "GET", f"{api}/csrf-token?client=evil", rebound),
        Attack("a name that leads here, to read", "GET", f"{api}/admin/settings", rebound),
        Attack("a wrong password", "POST", run, {**JSON, **_basic("segpipe:wrong")}, body),
        Attack("a wrong password, to read", "GET", f"{api}/admin/settings", _basic("segpipe:wrong")),
        Attack("a wrong password, for a token", "GET", f"{api}/csrf-token?client=evil", _basic(":")),
        Attack("a made up token", "POST", run, {**JSON, "Prefect-Csrf-Client": "x", "Prefect-Csrf-Token": "x"}, body),
        Attack("the login without a token", "POST", run, {**JSON, **_basic(services.login())}, body),
        Attack("a stranger who reads", "GET", f"{api}/deployments/{deployment}", {}),
        Attack("a preflight", "OPTIONS", run, {**PREFLIGHT, "Origin": FOREIGN}),
        Attack("an event", "POST", f"{api}/events", JSON, []),
    ]


def attacks_on_mlflow(services: Services) -> list[Attack]:
    """Requests that would change the registry."""
    port = services.mlflow_port
    create = f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/create"
    body = {"name": EVIL_NAME}
    return [
        Attack("a foreign page", "POST", create, {**JSON, "Origin": FOREIGN}, body),
        Attack("a page of a file", "POST", create, {**JSON, "Origin": "null"}, body),
        Attack("a form of a foreign page", "POST", create, {**SIMPLE, "Origin": FOREIGN}, body),
        Attack("a form without an origin", "POST", create, SIMPLE, body),
        Attack("a name that leads here", "POST", create, {**JSON, "Host": f"evil.example:{port}"}, body),
        Attack("a preflight", "OPTIONS", create, {**PREFLIGHT, "Origin": FOREIGN}),
    ]


def send(attack: Attack) -> httpx.Response:
    """Sends it, past any proxy of the environment."""
    content = None if attack.body is None else json.dumps(attack.body)
    with httpx.Client(trust_env=False, timeout=30) as client:
        return client.request(attack.method, attack.address, headers=attack.headers, content=content)


def is_socket_open_to_strangers(services: Services, path: str, token: str | None) -> bool:
    """Whether a WebSocket of Prefect's takes somebody with this token; browsers let any page open one."""
    address = f"ws://127.0.0.1:{services.prefect_port}/api{path}"
    protocols = None if token is None else [Subprotocol("prefect")]
    try:
        with connect(address, origin=None, subprotocols=protocols, proxy=None) as socket:
            if token is not None:
                socket.send(json.dumps({"type": "auth", "token": token}))
                return bool(json.loads(socket.recv(10))["type"] == "auth_success")
            socket.send("{}")
            socket.recv(1)
    except TimeoutError:
        return True
    except WebSocketException:
        return False
    return True
