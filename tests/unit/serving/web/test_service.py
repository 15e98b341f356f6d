"""The service in this process, with a model whose prediction is known."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from facts import missing
from PIL import Image
from pycocotools import mask as coco
from unit.serving.conftest import Reddest, colors_of, png

from segpipe.classes import ClassTable
from segpipe.export.exported import Prediction
from segpipe.reports.drawing.overlay import colorize, overlay
from segpipe.serving.backends import Served
from segpipe.serving.batching import Batcher
from segpipe.serving.following import Follower, Source
from segpipe.serving.limits import Limits
from segpipe.serving.roles import CHALLENGER
from segpipe.serving.web.access import WEBHOOK_SECRET, Access

Ask = Callable[..., Any]
IMAGE = {"Content-Type": "image/png"}
JSON, PARQUET = "application/json", "application/vnd.apache.parquet"


def pixels_of(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def reason_of(answer: httpx.Response) -> str:
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["request_id"] == answer.headers["x-request-id"]
    reason: str = document["reason"]
    return reason


def test_a_picture_is_answered_by_its_mask_in_each_style(ask: Ask, strongest: np.ndarray, classes: ClassTable) -> None:
    picture = colors_of(strongest, 204)
    styles = {
        "mask": strongest,
        "colors": colorize(strongest.astype(np.uint8), classes),
        "overlay": overlay(picture, strongest.astype(np.uint8), classes),
        "confidence": np.full(strongest.shape, 204),
    }
    for style, expected in styles.items():
        answer = ask(
            lambda client, style=style: client.post(f"/predict?style={style}", content=png(picture), headers=IMAGE)
        )
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-segpipe-version"] == "3"
        assert float(answer.headers["x-segpipe-confidence"]) == pytest.approx(0.8)
        np.testing.assert_array_equal(pixels_of(answer), expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools
def test_json_has_shares_confidence_run_lengths_and_polygons(
    ask: Ask, strongest: np.ndarray, classes: ClassTable
) -> None:
    content = png(colors_of(strongest, 102))
    answer = ask(
        lambda client: client.post("/predict?polygons=true", content=content, headers={**IMAGE, "Accept": JSON})
    )
    document = answer.json()
    assert document["model"] == {
        "role": "champion",
        "name": "boxes",
        "version": "3",
        "weights_sha256": "0" * 64,
        "backend": "onnx",
    }
    (image,) = document["images"]
    assert (image["height"], image["width"]) == strongest.shape
    assert image["mean_confidence"] == pytest.approx(0.4)
    for one in image["classes"]:
        is_class = strongest == one["index"]
        assert (one["name"], tuple(one["color"])) == (classes.names[one["index"]], classes.colors[one["index"]])
        assert (one["px"], one["share"]) == (is_class.sum(), pytest.approx(is_class.mean()))
        assert one["mean_confidence"] == pytest.approx(0.4)
        np.testing.assert_array_equal(coco.decode(one["rle"]), is_class)
    assert {one["properties"]["index"] for one in image["polygons"]["features"]} == {0, 1, 2}


def test_a_class_that_is_not_there_has_no_run_lengths(ask: Ask) -> None:
    content = png(colors_of(np.zeros((32, 40), int)))
    answer = ask(lambda client: client.post("/predict", content=content, headers={**IMAGE, "Accept": JSON}))
    absent = answer.json()["images"][0]["classes"][1]
    assert (absent["px"], absent["rle"], absent["mean_confidence"]) == (0, None, None)
    assert "polygons" not in answer.json()["images"][0]


def test_several_files_are_answered_in_their_order(ask: Ask, strongest: np.ndarray) -> None:
    masks = [strongest, strongest[:, ::-1], np.zeros((33, 64), int)]
    files = [("file", (f"{number}.png", png(colors_of(mask)))) for number, mask in enumerate(masks)]
    answer = ask(lambda client: client.post("/predict", files=files, headers={"Accept": PARQUET}))
    assert answer.headers["content-type"] == PARQUET
    table = pq.read_table(io.BytesIO(answer.content))
    assert json.loads(table.schema.metadata[b"segpipe.model"])["version"] == "3"
    rows = table.to_pylist()
    assert [row["name"] for row in rows] == ["0.png", "1.png", "2.png"]
    for row, mask in zip(rows, masks, strict=True):
        assert (row["height_px"], row["width_px"]) == mask.shape
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["mask_png"]))), mask)
        assert row["share road"] == pytest.approx((mask == 0).mean())
    images = ask(lambda client: client.post("/predict", files=files)).json()["images"]
    assert [image["name"] for image in images] == ["0.png", "1.png", "2.png"]


def test_pictures_are_read_as_everywhere(ask: Ask, strongest: np.ndarray) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter, clockwise
    content = png(colors_of(strongest), exif=turned)
    np.testing.assert_array_equal(
        pixels_of(ask(lambda client: client.post("/predict", content=content, headers=IMAGE))), np.rot90(strongest, -1)
    )
    for form in ("TIFF", "WEBP", "BMP"):
        content = png(colors_of(strongest), form, **({"lossless": True} if form == "WEBP" else {}))
        headers = {"Content-Type": f"image/{form.lower()}"}
        answer = ask(lambda client, c=content, h=headers: client.post("/predict", content=c, headers=h))
        np.testing.assert_array_equal(pixels_of(answer), strongest)


@pytest.mark.parametrize(
    ("content", "headers", "status", "facts"),
    [
        (b"hello", IMAGE, 415, ("not an image",)),
        (b"", IMAGE, 400, ("empty",)),
        (b"%PDF-1.7 and more", IMAGE, 415, ("PDF",)),
        (b"x", {"Content-Type": "text/html"}, 415, ("text/html", "--data-binary")),
        (png(np.zeros((40, 40, 3), np.uint8))[:-30], IMAGE, 422, ("cannot be decoded",)),
        (png(np.zeros((16, 40, 3), np.uint8)), IMAGE, 422, ("40x16", "32 px")),
        (png(np.zeros((101, 100, 3), np.uint8)), IMAGE, 413, ("100x101", "10000", "--max-px")),
        (bytes(20_001), IMAGE, 413, ("20001", "--max-bytes")),
        (b"x", {"Content-Type": "multipart/form-data"}, 400, ("multipart",)),
        (png(np.zeros((40, 40, 3), np.uint8)), {**IMAGE, "Accept": "text/html"}, 406, ("text/html", "image/png")),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(
    ask: Ask, content: bytes, headers: dict[str, str], status: int, facts: tuple[str, ...]
) -> None:
    limits = Limits(max_bytes=20_000, max_px=10_000)
    answer = ask(lambda client: client.post("/predict", content=content, headers=headers), limits)
    assert answer.status_code == status
    assert not missing(reason_of(answer), *facts)


def test_each_file_that_is_wrong_is_named_by_number_and_escaped_name(ask: Ask) -> None:
    good = png(np.zeros((40, 40, 3), np.uint8))
    files = [("file", ("good.png", good)), ("file", ("bö\x1b[31m.png", b"x")), ("file", ("third.png", b"y"))]
    answer = ask(lambda client: client.post("/predict", files=files))
    assert answer.status_code == 415
    assert not missing(reason_of(answer), "file 1 (", "b\\xf6", "file 2 ('third.png')")
    assert "\x1b" not in reason_of(answer)


def test_a_suffix_says_what_a_file_is_and_a_path_in_a_name_nothing(ask: Ask, strongest: np.ndarray) -> None:
    array = io.BytesIO()
    np.save(array, colors_of(strongest))
    files = [("file", ("../../etc/values.npy", array.getvalue()))]
    answer = ask(lambda client: client.post("/predict", files=files, headers={"Accept": "image/png"}))
    np.testing.assert_array_equal(pixels_of(answer), strongest)
    answer = ask(lambda client: client.post("/predict", files=[("file", ("a.exr", b"x"))]))
    assert answer.status_code == 415
    assert "brightness" in reason_of(answer)


def test_too_many_files_are_refused(ask: Ask) -> None:
    files = [("file", (f"{number}.png", b"x")) for number in range(4)]
    answer = ask(lambda client: client.post("/predict", files=files), Limits(max_files=3))
    assert answer.status_code == 400
    assert not missing(reason_of(answer), "3 files")
    answer = ask(lambda client: client.post("/predict", files={}, data={"a": "b"}, headers={}))
    assert answer.status_code == 415  # a form without files is sent as another type


def test_requests_at_once_are_predicted_together(ask: Ask, classes: ClassTable, strongest: np.ndarray) -> None:
    sizes: list[int] = []
    served = Served(Reddest(classes, 0.05, sizes), "onnx", "boxes", "3")
    content = png(colors_of(strongest))

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(*(client.post("/predict", content=content, headers=IMAGE) for _ in range(12)))

    for answer in ask(talk, Limits(max_batch=4), None, served):
        np.testing.assert_array_equal(pixels_of(answer), strongest)
    assert sum(sizes) == 12
    assert max(sizes) == 4


def test_a_full_queue_says_when_to_come_again(ask: Ask, classes: ClassTable) -> None:
    served = Served(Reddest(classes, 0.3), "onnx", "boxes", "3")
    content = png(np.zeros((40, 40, 3), np.uint8))

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(*(client.post("/predict", content=content, headers=IMAGE) for _ in range(6)))

    answers = ask(talk, Limits(max_queue=2, max_batch=1), None, served)
    codes = [answer.status_code for answer in answers]
    assert codes.count(200) == 2
    assert codes.count(429) == 4
    refused = answers[codes.index(429)]
    assert int(refused.headers["retry-after"]) >= 1
    assert not missing(reason_of(refused), "2 pictures wait", "again")


def test_an_answer_that_takes_too_long_is_a_504(ask: Ask, classes: ClassTable) -> None:
    served = Served(Reddest(classes, 1.0), "onnx", "boxes", "3")
    content = png(np.zeros((40, 40, 3), np.uint8))
    limits = Limits(timeout_seconds=0.2)
    answer = ask(lambda client: client.post("/predict", content=content, headers=IMAGE), limits, None, served)
    assert answer.status_code == 504
    assert "--timeout" in reason_of(answer)


def test_a_model_that_is_served_no_more_is_let_go(classes: ClassTable) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)

    async def talk() -> bool:
        batcher = Batcher(Limits(), lambda num_pictures, seconds: None)
        task = asyncio.create_task(batcher.run())
        served = Served(Reddest(classes), "onnx", "boxes", "3")
        kept = weakref.ref(served)
        await batcher.predict(served, pixels)
        del served
        for _ in range(500):
            if kept() is None:
                break
            await asyncio.sleep(0.01)
        task.cancel()
        return kept() is None

    assert asyncio.run(talk())


class Broken(Reddest):
    def predict(self, images_NHWC: np.ndarray) -> Any:
        raise RuntimeError("no memory left in /secret/place")


def test_a_defect_is_a_500_that_tells_nothing_and_the_service_goes_on(ask: Ask, classes: ClassTable) -> None:
    content = png(np.zeros((40, 40, 3), np.uint8))

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await client.post("/predict", content=content, headers=IMAGE),
            await client.get("/healthz"),
        ]

    answer, health = ask(talk, None, None, Served(Broken(classes), "onnx", "boxes", "3"))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert health.status_code == 200


def test_the_token_guards_all_but_probes_and_the_page(ask: Ask) -> None:
    access = Access(is_loopback=False, token="a token of some length")
    for path, status in (("/", 200), ("/healthz", 200), ("/readyz", 200), ("/model", 401), ("/metrics", 401)):
        assert ask(lambda client, path=path: client.get(path), None, access).status_code == status
    refused = ask(lambda client: client.post("/predict", headers={"Authorization": "Bearer wrong"}), None, access)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    headers = {"Authorization": "Bearer a token of some length"}
    assert ask(lambda client: client.get("/model", headers=headers), None, access).status_code == 200


@pytest.mark.parametrize(
    ("access", "status", "fact"),
    [
        (Access(is_loopback=True), 404, WEBHOOK_SECRET),
        (Access(is_loopback=True, webhook_secret="both know"), 408, "0.1 s"),
    ],
)
def test_a_webhook_whose_body_never_comes_holds_nothing(ask: Ask, access: Access, status: int, fact: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(20)

    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        async with asyncio.timeout(10):
            return await client.post("/hooks/mlflow", content=body())

    answer = ask(talk, Limits(body_seconds=0.1), access)
    assert answer.status_code == status
    assert fact in reason_of(answer)


def test_pages_of_others_are_refused(ask: Ask) -> None:
    assert ask(lambda client: client.get("/model", headers={"Host": "evil.example:8000"})).status_code == 421
    assert ask(lambda client: client.get("/model", headers={"Origin": "https://evil.example"})).status_code == 403
    assert ask(lambda client: client.get("/model", headers={"Origin": "http://127.0.0.1:8000"})).status_code == 200
    answer = ask(lambda client: client.options("/predict", headers={"Origin": "http://127.0.0.1:8000"}))
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_has_a_policy_and_needs_no_network(ask: Ask) -> None:
    answer = ask(lambda client: client.get("/"))
    assert not missing(answer.text, "connect-src &#39;self&#39;" if "&#39;" in answer.text else "connect-src 'self'")
    assert "http://" not in answer.text.replace("http://www.w3.org", "")
    assert "https://" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_state_metrics_and_openapi(ask: Ask) -> None:
    content = png(np.zeros((40, 40, 3), np.uint8))

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        await client.post("/predict", content=content, headers=IMAGE)
        await client.get("/nothing/here")
        return [await client.get(path) for path in ("/readyz", "/metrics", "/openapi.json")]

    ready, metrics, openapi = ask(talk)
    assert ready.json()["model"]["version"] == "3"
    assert ready.json()["trouble"] is None
    assert not missing(
        metrics.text,
        'segpipe_requests_total{path="/predict",status="200"} 1.0',
        'segpipe_requests_total{path="other",status="404"} 1.0',
        'segpipe_pictures_total{role="champion",version="3"} 1.0',
        'segpipe_model_info{backend="onnx",name="boxes",role="champion",version="3",weights="000000000000"} 1.0',
    )
    paths = openapi.json()["paths"]
    assert "multipart/form-data" in paths["/predict"]["post"]["requestBody"]["content"]
    assert paths["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["example"]["images"]


def test_a_request_keeps_its_id_if_that_is_plain(ask: Ask) -> None:
    answer = ask(lambda client: client.get("/model", headers={"X-Request-ID": "order-66"}))
    assert answer.headers["x-request-id"] == "order-66"
    answer = ask(lambda client: client.get("/model", headers={"X-Request-ID": "a b"}))
    assert answer.headers["x-request-id"] != "a b"


class Next(Reddest):
    """Says the class after the one of `Reddest`."""

    def predict(self, images_NHWC: np.ndarray) -> Prediction:
        masks_NHW = super().predict(images_NHWC).masks_NHW
        return Prediction((masks_NHW + 1).astype(np.uint8) % 3, np.full(masks_NHW.shape, 0.6, np.float32))


def next_class(classes: ClassTable, folder: Path, seconds: float = 0.0) -> Follower:
    return Follower(Served(Next(classes, seconds), "onnx", "boxes", "4", CHALLENGER), folder, role=CHALLENGER)


def test_a_challenger_answers_who_asks_for_it_and_says_so(
    ask: Ask, strongest: np.ndarray, classes: ClassTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = png(colors_of(strongest))

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        paths = ("/predict", "/predict?model=champion", "/predict?model=challenger")
        answers = await asyncio.gather(*(client.post(path, content=content, headers=IMAGE) for path in paths))
        document = await client.post("/predict?model=challenger", content=content, headers={**IMAGE, "Accept": JSON})
        return [*answers, document, *[await client.get(path) for path in ("/model", "/readyz", "/metrics")]]

    with caplog.at_level(logging.INFO):
        *answers, document, model, ready, metrics = ask(talk, challenger=next_class(classes, tmp_path))
    for answer, role, version, mask in zip(
        answers, ("champion", "champion", "challenger"), "334", (strongest, strongest, (strongest + 1) % 3), strict=True
    ):
        assert (answer.headers["x-segpipe-model"], answer.headers["x-segpipe-version"]) == (role, version)
        np.testing.assert_array_equal(pixels_of(answer), mask)
    for one in (document.json(), model.json()["challenger"], ready.json()["challenger"]):
        assert (one["model"]["role"], one["model"]["version"]) == ("challenger", "4")
    assert model.json()["model"]["version"] == ready.json()["model"]["version"] == "3"
    assert [one["name"] for one in model.json()["challenger"]["classes"]] == list(classes.names)
    assert not missing(
        metrics.text,
        'segpipe_pictures_total{role="champion",version="3"} 2.0',
        'segpipe_pictures_total{role="challenger",version="4"} 2.0',
        'segpipe_model_info{backend="onnx",name="boxes",role="challenger",version="4",weights="000000000000"} 1.0',
        'segpipe_model_outdated{role="challenger"} 0.0',
    )
    lines = [json.loads(record.message) for record in caplog.records if record.name == "segpipe.serving.events"]
    seen = [(line["role"], line["version"]) for line in lines if line["path"] == "/predict"]
    assert sorted(seen) == [("challenger", "4")] * 2 + [("champion", "3")] * 2


def test_both_models_share_the_queue(ask: Ask, classes: ClassTable, tmp_path: Path) -> None:
    content = png(np.zeros((40, 40, 3), np.uint8))

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        paths = ["/predict", "/predict?model=challenger"] * 3
        return await asyncio.gather(*(client.post(path, content=content, headers=IMAGE) for path in paths))

    served = Served(Reddest(classes, 0.3), "onnx", "boxes", "3")
    codes = [
        one.status_code for one in ask(talk, Limits(max_queue=2), None, served, next_class(classes, tmp_path, 0.3))
    ]
    assert (codes.count(200), codes.count(429)) == (2, 4)


def test_a_challenger_that_is_not_there_is_a_404_with_the_reason(ask: Ask, tmp_path: Path) -> None:
    def find() -> str | None:
        return None

    source = Source("boxes", "challenger", find, lambda version, folder: folder)
    without = Follower(None, tmp_path, source, role=CHALLENGER)
    content = png(np.zeros((40, 40, 3), np.uint8))
    for challenger, fact in ((None, "--challenger"), (without, "alias challenger of 'boxes'")):
        answer = ask(
            lambda client: client.post("/predict?model=challenger", content=content, headers=IMAGE),
            challenger=challenger,
        )
        assert answer.status_code == 404
        assert fact in reason_of(answer)
        assert ask(lambda client: client.get("/model"), challenger=challenger).json()["challenger"] is None
    answer = ask(lambda client: client.post("/predict?model=best", content=content, headers=IMAGE))
    assert answer.status_code == 422
    assert not missing(reason_of(answer), "model", "champion", "challenger")


def test_a_service_that_waits_for_its_first_model_is_alive_and_not_ready(ask: Ask, tmp_path: Path) -> None:
    def find() -> str | None:
        return None

    champion = Follower(None, tmp_path, Source("boxes", "champion", find, lambda version, folder: folder))
    content = png(np.zeros((40, 40, 3), np.uint8))

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        champion.poll()
        refused = [await client.post("/predict", content=content, headers=IMAGE), await client.get("/model")]
        return [*refused, *[await client.get(path) for path in ("/readyz", "/healthz", "/metrics", "/")]]

    predict, model, ready, *alive = ask(talk, champion=champion)
    for answer in (predict, model):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "/readyz" in reason_of(answer)
    assert ready.status_code == 503
    assert ready.json()["model"] is None
    assert "champion" in ready.json()["trouble"]["reason"]
    assert [answer.status_code for answer in alive] == [200, 200, 200]
