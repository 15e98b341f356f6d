"""`segpipe serve`: the champion, or any other model, and a challenger behind HTTP."""

import argparse
import contextlib
import os
import signal
import socket
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.cli.arguments import natural, positive
from segpipe.cli.model_address import add_registry_option
from segpipe.config.train import REGISTERED
from segpipe.errors import ServingError
from segpipe.registry.addresses import MODELS_TAKEN, find_model, read_alias
from segpipe.serving.limits import Limits
from segpipe.serving.roles import CHALLENGER, CHAMPION, Role
from segpipe.stages.stage import exit_on_signal

if TYPE_CHECKING:
    from segpipe.serving.following import Follower, Watch
    from segpipe.serving.metrics import Metrics
    from segpipe.serving.web.access import Access

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "onnxruntime")
LOOPBACK, PORT = "127.0.0.1", 8000
BACKENDS = ("onnx", "openvino", "torch")
POLL_SECONDS = 10
LOADING_SECONDS = 2.0  # that the end waits for a version which is being loaded
# MLflow's own would keep a poll waiting for minutes where the server does not answer.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}

EXAMPLES = """\
examples:
  segpipe serve
  segpipe serve --challenger
  segpipe serve --model models:/streets@champion --registry http://127.0.0.1:5000
  segpipe serve --model build/model --port 9000 --backend torch

  curl -H 'Content-Type: image/jpeg' --data-binary @street.jpg \\
    'http://127.0.0.1:8000/predict?style=overlay' > overlay.png

SIGTERM and Ctrl-C end it when what was accepted is answered.

more: docs/serving.md
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `serve`."""
    serve = commands.add_parser(
        "serve",
        help="answer requests by HTTP with a model, and follow its alias",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument(
        "--model", default=CHAMPION, metavar="ADDRESS", help=f"{MODELS_TAKEN} or of an export (default {CHAMPION})"
    )
    second = "a second model to compare with; without ADDRESS the alias challenger of the same registered model"
    serve.add_argument("--challenger", nargs="?", const=CHALLENGER, metavar="ADDRESS", help=second)
    waiting = "start without a model where the alias names no version yet, and wait for the first"
    serve.add_argument("--wait", action="store_true", help=waiting)
    add_registry_option(serve)
    backends = "onnx (default; a model without an export is exported first), openvino or torch"
    serve.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0], metavar="NAME", help=backends)
    where = f"address to listen on (default {LOOPBACK}); one that other machines reach needs a token"
    serve.add_argument("--host", default=LOOPBACK, metavar="HOST", help=where)
    serve.add_argument("--port", type=natural, default=PORT, metavar="N", help=f"default {PORT}; 0 takes a free one")
    poll = f"seconds between two looks at the aliases (default {POLL_SECONDS})"
    serve.add_argument("--poll", type=positive, default=POLL_SECONDS, metavar="SECONDS", help=poll)
    serve.add_argument("--threads", type=positive, metavar="N", help="threads of the network (default all cores)")
    serve.add_argument(
        "--max-bytes", type=positive, default=Limits.max_bytes, metavar="N", help="of a request (default 32 MiB)"
    )
    serve.add_argument(
        "--max-px", type=positive, default=Limits.max_px, metavar="N", help="pixels of a picture (default 2048 x 2048)"
    )
    serve.add_argument(
        "--max-batch", type=positive, default=Limits.max_batch, metavar="N", help="pictures at once (default 8)"
    )
    waiting = "how long a batch waits for pictures that are being decoded (default 5)"
    serve.add_argument("--max-wait", type=natural, default=Limits.max_wait_ms, metavar="MS", help=waiting)
    serve.add_argument(
        "--queue", type=positive, default=Limits.max_queue, metavar="N", help="pictures that may wait (default 64)"
    )
    serve.add_argument(
        "--timeout",
        type=positive,
        default=int(Limits.timeout_seconds),
        metavar="SECONDS",
        help="for an answer (default 30); for the body as long, and at most 10",
    )
    serve.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ServingError(f"{', '.join(missing)} not installed; run `pip install 'segpipe[serve]'`")
    from segpipe.serving.web.access import Access
    from segpipe.serving.web.server import bind_socket

    limits = Limits(
        max_bytes=options.max_bytes,
        max_px=options.max_px,
        max_queue=options.queue,
        max_batch=options.max_batch,
        max_wait_ms=options.max_wait,
        timeout_seconds=options.timeout,
        body_seconds=min(options.timeout, Limits.body_seconds),
        header_seconds=min(options.timeout, Limits.header_seconds),
        unread_seconds=min(options.timeout, Limits.unread_seconds),
    )
    access = Access.of(options.host, os.environ)  # a missing token is told before a model is downloaded
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, exit_on_signal)  # until `run_server` answers what was accepted first
    with (
        bind_socket(options.host, options.port) as bound,
        tempfile.TemporaryDirectory(prefix="segpipe-serve-", ignore_cleanup_errors=True) as workspace,
    ):
        watch = _run(options, access, limits, bound, Path(workspace))
        has_ended = watch.join(LOADING_SECONDS)
    if not has_ended:
        # Python's own end would unwind the thread out of the C++ that loads a model, which aborts the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _run(
    options: argparse.Namespace, access: "Access", limits: Limits, bound: socket.socket, workspace: Path
) -> "Watch":
    """Serves until the end; gives what followed the aliases meanwhile, which may still be loading a version."""
    from segpipe.serving.following import Watch
    from segpipe.serving.metrics import Metrics
    from segpipe.serving.web.app import make_app
    from segpipe.serving.web.server import run_server
    from segpipe.serving.web.service import Service

    metrics = Metrics()
    second = _name_challenger(options)
    champion = _hold(CHAMPION, options.model, options, workspace, metrics)
    challenger = None if second is None else _hold(CHALLENGER, second, options, workspace, metrics)
    watch = Watch(champion, challenger, options.poll)
    service = Service(watch, access, limits, metrics)
    host, port = bound.getsockname()[:2]
    place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    parts = [_describe(champion), *([] if challenger is None else [f"challenger: {_describe(challenger)}"])]
    print(f"{'; '.join(parts)}: {place}", flush=True)
    run_server(make_app(service), bound, limits)
    return watch


def _name_challenger(options: argparse.Namespace) -> str | None:
    """Gives the address of the second model; None for none."""
    if options.challenger != CHALLENGER:
        return None if options.challenger is None else str(options.challenger)
    alias = read_alias(options.model, options.registry)
    if alias is None:
        what = f"--challenger without an address is an alias of the model that {options.model} does not name"
        raise ServingError(f"{what}; write --challenger ADDRESS: {MODELS_TAKEN}")
    return f"{REGISTERED}{alias.model_name}@{CHALLENGER}"


def _hold(role: Role, address: str, options: argparse.Namespace, workspace: Path, metrics: "Metrics") -> "Follower":
    """Loads a model, and gives what holds and follows it; a version and a folder stay as they are.

    A champion that is not there is an error, unless the user wants to wait for it. A challenger may come and go.
    """
    from segpipe.serving.backends import Served, choose_folder, load_served
    from segpipe.serving.following import Follower

    def load(folder: Path, name: str, version: str | None) -> Served:
        return load_served(folder, options.backend, workspace, name, version, options.threads, role)

    alias = read_alias(address, options.registry)
    served = None
    if alias is None or (role == CHAMPION and not options.wait):
        with find_model(address, options.registry) as found:
            folder = choose_folder(found.folder, found.exports, options.backend)
            served = load(folder, found.name or found.folder.resolve().name, found.version)
    if alias is None:
        return Follower(served, workspace, role=role)
    from segpipe.serving.source import follow_alias

    name = alias.model_name
    source = follow_alias(name, alias.alias, options.backend)
    count = metrics.count_changes(role)
    follower = Follower(served, workspace, source, lambda folder, version: load(folder, name, version), role, count)
    if served is None and not options.wait:
        with contextlib.redirect_stdout(sys.stderr):  # of MLflow; standard output is for our line
            follower.poll()
    return follower


def _describe(follower: "Follower") -> str:
    served, source = follower.served, follower.source
    if served is None:
        assert source is not None
        return f"waiting for {source.title}"
    followed = "" if source is None else f", following its alias {source.alias}"
    return f"{served.name} version {served.label} by {served.backend}{followed}"
