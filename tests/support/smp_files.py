"""Files of encoders in CEM500K's released format."""

from pathlib import Path

import segmentation_models_pytorch as smp
import torch


def write_moco(path: Path, encoder: str) -> Path:
    """Random weights of an encoder of smp as a checkpoint of MoCoV2; returns ``path``."""
    state = smp.Unet(encoder, encoder_weights=None, in_channels=1).encoder.state_dict()
    torch.save({"state_dict": {f"module.encoder_q.{key}": value for key, value in state.items()}}, path)
    return path
