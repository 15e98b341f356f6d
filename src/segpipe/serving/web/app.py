"""The service's addresses by HTTP, and what is done around each request: id, access, log, count."""

import contextlib
import re
import time
import traceback
import uuid
from collections.abc import AsyncIterator
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segpipe.reports.page import fill_page
from segpipe.serving.events import log_event
from segpipe.serving.limits import RefusedError
from segpipe.serving.roles import CHAMPION, Role
from segpipe.serving.web.openapi import MODEL, PREDICT
from segpipe.serving.web.service import Service

REQUEST_ID, ROLE = "X-Request-ID", "X-Segpipe-Model"
VERSION, CONFIDENCE = "X-Segpipe-Version", "X-Segpipe-Confidence"
SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_WEBHOOK_BYTES = 64 << 10
PATHS = frozenset({"/", "/predict", "/model", "/healthz", "/readyz", "/metrics", "/hooks/mlflow", "/openapi.json"})
# The page itself has the rest of its policy.
PAGE_HEADERS = {"Content-Security-Policy": "frame-ancestors 'none'", "Referrer-Policy": "no-referrer"}
PLAIN = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def make_app(service: Service) -> ASGIApp:
    """Builds the application.

    Args:
        service: that answers.
    """

    @contextlib.asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.stop()

    # FastAPI's own pages of documentation load scripts from a CDN.
    app = FastAPI(title="segpipe serve", version="1", docs_url=None, redoc_url=None, lifespan=run)
    _answer_errors(app)
    _add_predict(app, service)
    _add_state(app, service)
    return Guarded(app, service)


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.post("/predict", response_class=Response, **PREDICT)
    async def predict(
        request: Request,
        role: Annotated[Role, Query(alias="model", description="Which of the service's models answers.")] = CHAMPION,
        style: Annotated[
            Literal["mask", "colors", "overlay", "confidence"], Query(description="What a PNG shows.")
        ] = "mask",
        polygons: Annotated[bool, Query(description="Adds the classes' outlines to a JSON, as GeoJSON.")] = False,
    ) -> Response:
        predicted = await service.predict(request, role, style, polygons, request.state.request_id)
        served = predicted.served
        request.state.served = {"role": served.role, "version": served.label}
        headers = {ROLE: served.role, VERSION: served.label, CONFIDENCE: f"{predicted.confidence:.4f}", **PLAIN}
        return Response(predicted.content, media_type=predicted.wish.form, headers={**headers, "Vary": "Accept"})

    @app.get("/model", **MODEL)
    async def model() -> JSONResponse:
        return JSONResponse(asdict(service.describe()), headers=PLAIN)


def _add_state(app: FastAPI, service: Service) -> None:
    page = fill_page("service.html.j2", "service.js.j2", title="segpipe serve")

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={**PAGE_HEADERS, **PLAIN})

    @app.get("/healthz", summary="Whether the process works")
    async def healthz() -> JSONResponse:
        status = HTTPStatus.OK if service.is_alive else HTTPStatus.INTERNAL_SERVER_ERROR
        return JSONResponse({"status": "alive" if service.is_alive else "dead"}, status)

    @app.get("/readyz", summary="Whether requests are answered, by which model, and why not by a newer one")
    async def readyz() -> JSONResponse:
        status = HTTPStatus.OK if service.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse(asdict(service.tell_readiness()), status)

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.write_metrics(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/hooks/mlflow", status_code=HTTPStatus.ACCEPTED, summary="MLflow's webhook: an alias has moved")
    async def hook(request: Request) -> JSONResponse:
        service.access.require_webhook()
        body = b""
        async with service.intake.in_time():
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_WEBHOOK_BYTES:
                    raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MAX_WEBHOOK_BYTES} bytes")
        service.access.check_webhook(dict(request.headers), body)
        service.watch.wake()
        return JSONResponse({"status": "asking the registry"}, HTTPStatus.ACCEPTED)


def _answer_errors(app: FastAPI) -> None:
    """Gives each error the form of the service's own."""

    @app.exception_handler(RefusedError)
    async def refuse(request: Request, refusal: RefusedError) -> JSONResponse:
        request.state.reason = refusal.reason
        return _error(refusal.status, refusal.reason, request.state.request_id, refusal.headers)

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> JSONResponse:
        known = "/predict, /model, /healthz, /readyz, /metrics, /openapi.json and the page /"
        reason = f"{error.detail}; the service has {known}"
        return _error(HTTPStatus(error.status_code), reason, request.state.request_id, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def refuse_query(request: Request, error: RequestValidationError) -> JSONResponse:
        reasons = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return _error(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(reasons), request.state.request_id)

    @app.exception_handler(Exception)
    async def admit(request: Request, error: Exception) -> JSONResponse:
        reason = "the service failed; its log has the reason under this request_id"
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, reason, request.state.request_id)


def _error(status: HTTPStatus, reason: str, request_id: str, headers: dict[str, str] | None = None) -> JSONResponse:
    document = {"status": int(status), "error": status.phrase, "reason": reason, "request_id": request_id}
    return JSONResponse(document, status, {**PLAIN, **(headers or {})})


class Guarded:
    """An application with its guard: gives each request an id, checks who asks, writes the log and the counters.

    Args:
        app: answers.
        service: whose access, log and counters.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(REQUEST_ID.lower(), "")
        request_id = given if SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (REQUEST_ID.lower().encode(), request_id.encode())]
            await send(message)

        try:
            self._service.access.check(scope["path"], headers)
        except RefusedError as refusal:
            state["reason"] = refusal.reason
            await _error(refusal.status, refusal.reason, request_id, refusal.headers)(scope, receive, send_with_id)
        else:
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:  # FastAPI has answered with 500, and passes it on to be logged
                log_event("defect", request_id=request_id, traceback=traceback.format_exc())
        self._note(scope, state, status, time.perf_counter() - began)

    def _note(self, scope: Scope, state: dict[str, Any], status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in PATHS else "other"
        metrics = self._service.metrics
        metrics.requests.labels(path, str(status)).inc()
        if path == "/predict":
            metrics.seconds.observe(seconds)
        if path in {"/healthz", "/readyz", "/metrics"} and status == HTTPStatus.OK:
            return  # they come every few seconds, and say nothing
        values = {"request_id": state["request_id"], "method": scope["method"], "path": scope["path"], "status": status}
        values |= {"ms": round(seconds * 1000, 1), **state.get("served", {})}
        values |= {"reason": state["reason"]} if "reason" in state else {}
        log_event("request", **values)
