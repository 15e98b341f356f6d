"""Writes DICOM files with pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_dicom(path: Path, values: np.ndarray, *, syntax: str | None = None, **elements: Any) -> Path:
    """Writes (height, width) grey or (height, width, 3) colours.

    Args:
        path: of the file.
        values: stored values, of 8 or 16 bits.
        syntax: UID of the transfer syntax; without compression if it is not given.
        **elements: of the data set, by keyword; they replace those that the values give.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = syntax or ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    num_bits = 8 * values.dtype.itemsize
    num_samples = values.shape[2] if values.ndim == 3 and "NumberOfFrames" not in elements else 1
    described = {
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": num_samples,
        "PhotometricInterpretation": "MONOCHROME2" if num_samples == 1 else "RGB",
        "BitsAllocated": num_bits,
        "BitsStored": num_bits,
        "HighBit": num_bits - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "PixelData": values.tobytes(),
    }
    described |= {"PlanarConfiguration": 0} if num_samples == 3 else {}
    for name, value in (described | elements).items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path
