"""What `/openapi.json` says of the addresses, with examples that were really answered."""

from typing import Any

from segpipe.serving.web.answers import JSON, PARQUET, PNG

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_REFUSED = {
    "status": 413,
    "error": "Request Entity Too Large",
    "reason": "the picture has 30000x30000 px, and 4194304 px are taken (--max-px)",
    "request_id": "0f0c9d1c5f3b4c60a1a3b0a7f5a2f1f4",
}
_MODEL = {"role": "champion", "name": "streets", "version": "3", "weights_sha256": "5f0c" * 16, "backend": "onnx"}
_CLASSES = [
    {"index": 0, "name": "road", "color": [128, 64, 128]},
    {"index": 1, "name": "car", "color": [0, 0, 142]},
]
_ANSWER = {
    "request_id": "0f0c9d1c5f3b4c60a1a3b0a7f5a2f1f4",
    "model": _MODEL,
    "images": [
        {
            "name": "street.jpg",
            "width": 64,
            "height": 48,
            "notes": ["turned upright by EXIF"],
            "mean_confidence": 0.93,
            "classes": [
                {
                    **_CLASSES[0],
                    "px": 3072,
                    "share": 1.0,
                    "mean_confidence": 0.93,
                    "rle": {"size": [48, 64], "counts": "0PP3"},
                },
                {**_CLASSES[1], "px": 0, "share": 0.0, "mean_confidence": None, "rle": None},
            ],
        }
    ],
}
_REASONS = {
    400: "The body is empty, or no form that can be read.",
    401: "The token is missing or wrong.",
    403: "A web page of another origin asks.",
    404: "The service has no challenger now.",
    406: "None of the forms that `Accept` names fits.",
    408: "The body came too slowly.",
    413: "Too many bytes or pixels; said before anything is decoded.",
    415: "The body or a file of it is no picture.",
    421: "`Host` names another machine.",
    422: "The picture cannot be used, or a parameter is wrong; says why, and what to do.",
    429: "Too many pictures wait; `Retry-After` says when to come again.",
    503: "There is no model yet.",
    504: "There was no answer in time.",
}

# Arguments of FastAPI's decorators.
PREDICT: dict[str, Any] = {
    "summary": "Predict the mask of one picture, or of several",
    "description": "The body is a picture (JPEG, PNG, WebP, TIFF and all that `segpipe predict` reads), or a form with "
    f"several files. `Accept` chooses the answer: `{PNG}` (of one picture; `style` says what it shows), `{JSON}` or "
    f"`{PARQUET}`.",
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "image/*": _BINARY,
                "application/octet-stream": _BINARY,
                "application/dicom": _BINARY,
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    }
                },
            },
        }
    },
    "responses": {
        200: {
            "description": "The prediction. The header X-Segpipe-Model says which model answered, X-Segpipe-Version "
            "its version, X-Segpipe-Confidence the mean over all pixels, X-Request-ID the id under which the log has "
            "it.",
            "content": {PNG: _BINARY, JSON: {"example": _ANSWER}, PARQUET: _BINARY},
        },
        **{
            status: {"description": reason, "content": {JSON: {"example": _REFUSED}} if status == 413 else {}}
            for status, reason in _REASONS.items()
        },
    },
}
MODEL: dict[str, Any] = {
    "summary": "The models, their classes with their colours, and the limits of a request",
    "responses": {
        200: {
            "content": {
                JSON: {
                    "example": {
                        "model": _MODEL,
                        "classes": _CLASSES,
                        "challenger": {
                            "model": {**_MODEL, "role": "challenger", "version": "4", "weights_sha256": "8d1e" * 16},
                            "classes": _CLASSES,
                        },
                        "limits": {"max_bytes": 33554432, "max_px": 4194304, "max_files": 16},
                    }
                }
            }
        }
    },
}
