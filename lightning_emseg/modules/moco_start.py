"""Where a segmentation network's encoder starts from a file of MoCoV2."""

from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info
from torch import nn

from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.weights import initialise_encoder, load_moco_weights


def start_from_moco(module: SegmentationMixin, encoder: nn.Module, path: Path, use_norms: bool = True) -> None:
    """Take over an encoder in CEM500K's released format (Conrad and Narayan 2021), and say what was loaded.

    Args:
        module: Whose normalisation may change.
        encoder: Of its network.
        path: Of the file.
        use_norms: Whether the file's mean and standard deviation of grey values replace those of the module.

    Raises:
        UserError: if the file is missing, of another format, or does not fit the encoder.
    """
    weights = load_moco_weights(path)
    report = initialise_encoder(encoder, weights)
    rank_zero_info(f"encoder weights from {path}: {report}; the decoder starts random")
    if use_norms and weights.norms is not None:
        module.grey_mean.fill_(weights.norms[0])
        module.grey_std.fill_(weights.norms[1])
