"""The forms of an answer: PNG, JSON, Parquet; which of them a client wants."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pycocotools import mask as coco

from segpipe.classes import ClassTable
from segpipe.data.images import Picture
from segpipe.reports.drawing.overlay import colorize, encode_png, overlay
from segpipe.serving.batching import Answer
from segpipe.serving.limits import RefusedError
from segpipe.serving.web.documents import AboutClass, AboutModel, ClassInPicture, PredictedPicture, RunLengths
from segpipe.serving.web.polygons import TooManyCornersError, outline

PNG, JSON, PARQUET = "image/png", "application/json", "application/vnd.apache.parquet"
FORMS = (PNG, JSON, PARQUET)  # the first is the answer to a client that wants nothing special
MASK, COLORS, OVERLAY, CONFIDENCE = "mask", "colors", "overlay", "confidence"
STYLES = (MASK, COLORS, OVERLAY, CONFIDENCE)
CERTAIN = 255


@dataclass(frozen=True)
class Wish:
    """The form of an answer.

    Attributes:
        form: one of `FORMS`.
        style: of a PNG, one of `STYLES`.
        polygons: whether a JSON has the outlines of the classes as GeoJSON too.
    """

    form: str
    style: str = MASK
    polygons: bool = False


@dataclass(frozen=True)
class Result:
    """A picture and what the network said about it.

    Attributes:
        name: of the file, as the client wrote it.
        picture: that was predicted.
        answer: of the network.
    """

    name: str
    picture: Picture
    answer: Answer


def choose_form(accept: str, num_files: int) -> str:
    """Chooses a form by the header `Accept` (RFC 9110, 12.5.1).

    Args:
        accept: the header; '' for none.
        num_files: that the request brought; a PNG holds one.

    Raises:
        RefusedError: 406.
    """
    offered = FORMS if num_files == 1 else (JSON, PARQUET)
    best, best_rank = "", 0.0
    wanted = [_read_range(one) for one in (accept or "*/*").split(",")]
    for form in offered:
        # The most exact of the ranges that name this form decides.
        matches = [(exactness, quality) for pattern, quality in wanted if (exactness := _match(pattern, form))]
        quality = max(matches)[1] if matches else 0.0
        if quality > best_rank:
            best, best_rank = form, quality
    if not best:
        several = f"; a PNG holds one picture, and {num_files} were sent" if num_files > 1 else ""
        reason = f"Accept: {accept} is none of {', '.join(offered)}{several}"
        raise RefusedError(HTTPStatus.NOT_ACCEPTABLE, reason)
    return best


def _read_range(text: str) -> tuple[str, float]:
    pattern, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return pattern, float(parameter[2:])
            except ValueError:
                return pattern, 0.0
    return pattern, 1.0


def _match(pattern: str, form: str) -> int:
    """Gives how exactly a range names a form: 3 itself, 2 its type, 1 any; 0 not at all."""
    if pattern == form:
        return 3
    return 2 if pattern == f"{form.partition('/')[0]}/*" else int(pattern == "*/*")


def write_answer(results: Sequence[Result], wish: Wish, request_id: str) -> bytes:
    """Writes the body of an answer.

    Raises:
        RefusedError: 422 where polygons would be larger than the picture.
    """
    if wish.form == PNG:
        (result,) = results
        return encode_png(_draw(result, wish.style))
    if wish.form == PARQUET:
        return _write_parquet(results)
    served = results[0].answer.served
    images = [_describe(result, wish.polygons).to_json() for result in results]
    document = {"request_id": request_id, "model": asdict(AboutModel.of(served)), "images": images}
    return json.dumps(document).encode()


def mean_confidence(results: Sequence[Result]) -> float:
    """Gives the mean over all pixels of all pictures."""
    total = sum(float(result.answer.confidences.sum(dtype=np.float64)) for result in results)
    return total / sum(result.answer.mask.size for result in results)


def _draw(result: Result, style: str) -> npt.NDArray[np.uint8]:
    answer = result.answer
    classes = answer.served.model.classes
    if style == COLORS:
        return colorize(answer.mask, classes)
    if style == OVERLAY:
        return overlay(result.picture.pixels, answer.mask, classes)
    if style == CONFIDENCE:
        return np.rint(answer.confidences * CERTAIN).astype(np.uint8)
    return answer.mask


def _describe(result: Result, has_polygons: bool) -> PredictedPicture:
    mask, confidences = result.answer.mask, result.answer.confidences
    classes = result.answer.served.model.classes
    num_px, sums = _count(mask, confidences, classes.num_classes)
    return PredictedPicture(
        name=result.name,
        width=mask.shape[1],
        height=mask.shape[0],
        notes=tuple(result.picture.notes),
        mean_confidence=float(sums.sum()) / mask.size,
        classes=tuple(
            _describe_class(one, mask, int(num_px[one.index]), float(sums[one.index]))
            for one in AboutClass.list_of(classes)
        ),
        polygons=_outline(mask, classes) if has_polygons else None,
    )


def _describe_class(
    about: AboutClass, mask: npt.NDArray[np.uint8], num_px: int, sum_of_confidences: float
) -> ClassInPicture:
    return ClassInPicture(
        index=about.index,
        name=about.name,
        color=about.color,
        px=num_px,
        share=num_px / mask.size,
        mean_confidence=sum_of_confidences / num_px if num_px else None,
        rle=_run_lengths(mask == about.index) if num_px else None,
    )


def _outline(mask: npt.NDArray[np.uint8], classes: ClassTable) -> dict[str, object]:
    try:
        return outline(mask, classes)
    except TooManyCornersError as error:
        reason = f"the mask is too ragged: {error}; take the run lengths, without polygons=true"
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, reason) from error


def _count(
    mask: npt.NDArray[np.uint8], confidences: npt.NDArray[np.float32], num_classes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Gives the pixels of each class, and the sums of their confidences."""
    flat = mask.ravel()
    num_px = np.asarray(np.bincount(flat, minlength=num_classes), np.int64)
    sums = np.asarray(np.bincount(flat, weights=confidences.ravel(), minlength=num_classes), np.float64)
    return num_px[:num_classes], sums[:num_classes]


def _run_lengths(is_class: npt.NDArray[np.bool_]) -> RunLengths:
    encoded = coco.encode(np.asfortranarray(is_class.astype(np.uint8)))
    height, width = map(int, encoded["size"])
    return RunLengths((height, width), encoded["counts"].decode("ascii"))


def _write_parquet(results: Sequence[Result]) -> bytes:
    """Writes a row a picture; the shares are a column for each class."""
    served = results[0].answer.served
    classes = served.model.classes
    counts = [_count(one.answer.mask, one.answer.confidences, classes.num_classes) for one in results]
    sizes = [result.answer.mask.size for result in results]
    columns: dict[str, object] = {
        "index": pa.array(range(len(results)), pa.int32()),
        "name": [result.name for result in results],
        "width_px": pa.array([result.answer.mask.shape[1] for result in results], pa.int32()),
        "height_px": pa.array([result.answer.mask.shape[0] for result in results], pa.int32()),
        "mean_confidence": [float(sums.sum()) / size for (_, sums), size in zip(counts, sizes, strict=True)],
        "mask_png": pa.array([encode_png(result.answer.mask) for result in results], pa.binary()),
        "notes": ["; ".join(result.picture.notes) for result in results],
    }
    for index, name in enumerate(classes.names):
        shares = [int(num_px[index]) / size for (num_px, _), size in zip(counts, sizes, strict=True)]
        columns[f"share {name}"] = shares
    metadata = {
        "segpipe.model": json.dumps(asdict(AboutModel.of(served))),
        "segpipe.classes": json.dumps(classes.to_json()),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()
