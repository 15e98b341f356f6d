"""The data set that `dvc repro preprocess` builds, for programs and for PyTorch's loaders."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch.utils.data import Dataset as TorchDataset

from segpipe.classes import ClassTable
from segpipe.data.store import Store
from segpipe.errors import StoreError

Item = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


class Dataset(TorchDataset[Item]):
    """Labelled images of one size or of several; `segpipe.open_dataset` gives one.

    It is a data set of PyTorch: it can be pickled, and the processes of a `DataLoader` share its memory maps. Images of
    several sizes need a `collate_fn` or a transform.

    Args:
        store: the samples.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.store)

    def __getitem__(self, index: int) -> Item:
        """Gives a sample: (H, W, 3) uint8 RGB, and (H, W) uint8 class indices, 255 for void; copies."""
        image, mask = self.store.read(index)
        return image.copy(), mask.copy()

    @property
    def classes(self) -> ClassTable:
        """Names and colours of the classes; `classes.names[i]` is index i of a mask."""
        return self.store.classes

    @property
    def digest(self) -> str:
        """Identifies the samples by their content, 32 hexadecimal digits."""
        return self.store.digest

    @property
    def samples(self) -> pd.DataFrame:
        """A copy of the manifest, a row a sample in the order of the indices.

        Columns are, among others, `sample_id`, `split`, `group`, `height`, `width` (px), and `num_px_CLASS` for each
        class.
        """
        return self.store.manifest.copy()

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that have samples: `train`, `val`, and `test` where there is one."""
        found = set(self.store.manifest["split"])
        return tuple(sorted(found, key=("train", "val", "test").index))

    def split(self, name: str) -> "Dataset":
        """Gives the samples of one split.

        Args:
            name: `train`, `val` or `test`.

        Raises:
            StoreError: it has no samples.
        """
        if name not in self.splits:
            raise StoreError(f"{self.store.folder}: has no split {name!r}; its splits: {', '.join(self.splits)}")
        return Dataset(self.store.of_split(name))

    def __getstate__(self) -> dict[str, Any]:
        """Gives what another process needs to open the same files."""
        store = self.store
        return {"classes": store.classes, "digest": store.digest, "manifest": store.manifest, "folder": store.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the files that were verified already."""
        self.store = Store(**state)

    def __repr__(self) -> str:
        """The folder, and the samples of each split."""
        counts = self.store.manifest["split"].value_counts()
        return f"<Dataset {str(self.store.folder)!r}: {', '.join(f'{counts[name]} {name}' for name in self.splits)}>"


def open_dataset(folder: str | Path) -> Dataset:
    """Opens a data set, and verifies each of its files.

    Args:
        folder: `build/dataset` of a project, after `dvc repro preprocess` or `dvc pull`.

    Raises:
        StoreError: a file is missing, or has changed since it was written.

    Examples:
        >>> import segpipe
        >>> dataset = segpipe.open_dataset("build/dataset")
        >>> image, mask = dataset[0]
        >>> image.shape, mask.shape, mask.dtype
        ((48, 64, 3), (48, 64), dtype('uint8'))
        >>> len(dataset.split("val")), dataset.classes.names
        (3, ('ground', 'sky', 'box'))
    """
    return Dataset(Store.open(Path(folder)))
