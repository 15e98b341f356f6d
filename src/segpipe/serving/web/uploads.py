"""From a request's body to pictures: bounded before it is held, and read as `segpipe predict` reads it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from segpipe.data.images import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    Header,
    ImageFileError,
    Picture,
    load_image,
    read_header,
)
from segpipe.data.images.formats import suffix_of
from segpipe.documents import ImageMapping
from segpipe.serving.encoded import as_file
from segpipe.serving.limits import MAX_BYTES_PER_PX, Limits, RefusedError

MULTIPART = "multipart/form-data"
DICOM = "application/dicom"
RAW = frozenset({"", "application/octet-stream", DICOM})  # and all of image/
# Of the faults of segpipe.faults; all others are pictures that are damaged or of a kind that is not read: 422.
STATUS_OF_FAULT = {
    "not-an-image": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "image-too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
MIN_SIDE_PX = 32  # of what a network takes
DRAIN_SECONDS = 0.5  # a client that is still sending would not see an answer that came earlier


@dataclass(frozen=True)
class Upload:
    """A file of a request.

    Attributes:
        name: as the client wrote it; never a path of this machine.
        suffix: of the name, one that pictures have; '' for none.
        content: the file.
    """

    name: str
    suffix: str
    content: bytes


@dataclass
class Body:
    """A request's body that is held.

    Attributes:
        num_bytes: that were received so far.
    """

    num_bytes: int = 0


class Intake:
    """Receives bodies, and bounds what they hold together.

    Args:
        limits: of a body, of all, and of its time.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held_bytes = 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[Body]:
        """Gives an empty body; its bytes count until the end of the body of this statement."""
        body = Body()
        try:
            yield body
        finally:
            self._held_bytes -= body.num_bytes

    @contextlib.asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Bounds the time in which the body of this statement receives a request's body.

        Raises:
            RefusedError: 408.
        """
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                yield
        except TimeoutError as error:
            what = f"the body was not complete after {self._limits.body_seconds:g} s"
            raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, what) from error

    async def receive(self, request: Request, body: Body) -> list[Upload]:
        """Gives the files of a request.

        Args:
            request: whose body was not read yet.
            body: of `holding`.

        Raises:
            RefusedError: 400, 408, 413, 415, 429.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != MULTIPART and kind not in RAW and not kind.startswith("image/"):
            fix = (
                "Send a file by `curl -H 'Content-Type: image/jpeg' --data-binary @FILE`, or several by `-F file=@FILE`"
            )
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body is {kind}, which is not read. {fix}")
        async with self.in_time():
            return await self._receive(request, kind, body)

    async def _receive(self, request: Request, kind: str, body: Body) -> list[Upload]:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limits.max_bytes:
            await self._drain(request)
            raise self._too_many_bytes(int(declared))

        async def receive() -> Message:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(HTTPStatus.BAD_REQUEST, "the client went before its body was complete")
            num_bytes = len(message.get("body", b""))
            body.num_bytes += num_bytes
            self._held_bytes += num_bytes
            if body.num_bytes > self._limits.max_bytes:
                await self._drain(request)
                raise self._too_many_bytes(body.num_bytes)
            if self._held_bytes > self._limits.max_held_bytes:
                raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "too many bodies are being received; send it again", 1)
            return message

        limited = Request(request.scope, receive)
        if kind == MULTIPART:
            return await self._split(limited)
        content = await limited.body()
        if not content:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the body is empty; send a picture")
        return [Upload("", ".dcm" if kind == DICOM else "", content)]

    async def _split(self, request: Request) -> list[Upload]:
        max_files = self._limits.max_files
        try:
            form = await request.form(max_files=max_files, max_fields=max_files, max_part_size=1024)
        except HTTPException as error:  # of the parser: no boundary, too many parts
            reason = f"the multipart body cannot be read: {error.detail} (at most {max_files} files)"
            raise RefusedError(HTTPStatus.BAD_REQUEST, reason) from error
        try:
            files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            if not files:
                raise RefusedError(HTTPStatus.BAD_REQUEST, "the form holds no file; send one by `curl -F file=@FILE`")
            return [Upload(one.filename or "", _safe_suffix(one.filename or ""), await one.read()) for one in files]
        finally:
            await form.close()

    def _too_many_bytes(self, num_bytes: int) -> RefusedError:
        reason = f"the body has {num_bytes} bytes or more, and {self._limits.max_bytes} are taken (--max-bytes)"
        return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)

    @staticmethod
    async def _drain(request: Request) -> None:
        if "expect" in request.headers:  # it has sent nothing yet, and waits for a word
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while (message := await request.receive())["type"] == "http.request" and message.get("more_body"):
                    pass


def _safe_suffix(name: str) -> str:
    suffix = suffix_of(name)
    return suffix if suffix in IMAGE_SUFFIXES | UNREAD_SUFFIXES else ""


def read_picture(upload: Upload, mapping: ImageMapping, limits: Limits, take_px: Callable[[int], None]) -> Picture:
    """Reads a picture; its size is checked by its header, before anything is decoded.

    Args:
        upload: the file.
        mapping: how its values become 8-bit RGB.
        limits: of a picture.
        take_px: gets the number of pixels before they are decoded; may refuse.

    Raises:
        RefusedError: 413 where it is too large, 415 where it is no picture, 422 where it cannot be used.
    """
    with as_file(upload.content, upload.suffix) as path:
        if (header := read_header(path)) is not None:  # of a file without one, the reader says why
            _check_size(header, limits)
            take_px(header.height * header.width)
        try:
            return load_image(path, mapping)
        except ImageFileError as error:
            status = STATUS_OF_FAULT.get(error.fault.kind, HTTPStatus.UNPROCESSABLE_ENTITY)
            raise RefusedError(status, f"the file {error}") from error


def _check_size(header: Header, limits: Limits) -> None:
    size = f"{header.width}x{header.height} px"
    if header.height * header.width > limits.max_px or header.reading_px > MAX_BYTES_PER_PX * limits.max_px:
        what = f"the picture has {size}, and {limits.max_px} px are taken (--max-px)"
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
    if min(header.height, header.width) < MIN_SIDE_PX:
        what = f"the picture has {size}; a network needs {MIN_SIDE_PX} px a side"
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, what)
