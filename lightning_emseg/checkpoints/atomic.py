"""How the trainer saves and loads checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import TorchCheckpointIO

from lightning_emseg.checkpoints.files import write
from lightning_emseg.checkpoints.reading import read


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are written whole or not at all, checked when they are loaded, and never run code.

    Lightning's own buffers the file in memory and moves it from the folder of temporary files, which is not atomic
    across file systems. Remote paths (``s3://...``) are left to it: their uploads are atomic.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write one file.

        Raises:
            UserError: if the disk is full or refuses; what was there before is untouched.
        """
        if _is_remote(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write(checkpoint, Path(path))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read one file; only weights and plain data, whatever ``weights_only`` says.

        Raises:
            UserError: if the file is missing, damaged or no checkpoint.
        """
        if _is_remote(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        return read(Path(path))


def _is_remote(path: str | Path) -> bool:
    return "://" in str(path)
