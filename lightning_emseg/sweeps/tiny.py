"""Settings that make any trial tiny; they travel beside its own, as further arguments."""

import json
from collections.abc import Mapping
from pathlib import Path

from lightning_emseg.sweeps.definition import Parameters

SIZES: Parameters = {
    "data.patch_size": 64,
    "data.tile_size": 64,
    "data.batch_size": 2,
    "data.eval_batch_size": 2,
    "data.patches_per_epoch": 4,
    "data.overlap": 0.0,
    "data.val_tiles": 4,
    "data.full_validation_every": 1,
    "data.num_workers": 0,
    "trainer.max_epochs": 1,
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.num_nodes": 1,
    "trainer.strategy": "auto",
    "trainer.precision": "32-true",
    "trainer.num_sanity_val_steps": 0,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": False,
}

WHERE_SWEPT: Mapping[str, Parameters] = {
    # A download would need the network.
    "model.init_args.encoder_weights": {"model.init_args.encoder_weights": "null"},
    "trainer.callbacks.init_args.method": {
        "trainer.callbacks.init_args.per_outcome": 1,
        "trainer.callbacks.init_args.windows": 1,
        "trainer.callbacks.init_args.check": 1,
    },
}
"""What is set as well where a sweep varies something under a name."""


def tiny(parameters: Parameters, store: Path, metrics: Path) -> Parameters:
    """Settings to add to those of a trial.

    Args:
        parameters: Of the trial.
        store: Store with splits ``train`` and ``val`` whose mosaics measure at least 64 px.
        metrics: Folder that gets a ``metrics.csv`` of everything that is logged, whatever the verb.
    """
    logger = {
        "class_path": "pytorch_lightning.loggers.CSVLogger",
        "init_args": {"save_dir": str(metrics), "name": "", "version": "", "flush_logs_every_n_steps": 1},
    }
    return {
        **SIZES,
        "data.store": str(store),
        "trainer.logger+": json.dumps(logger),
        **{
            name: value
            for prefix, settings in WHERE_SWEPT.items()
            if any(swept.startswith(prefix) for swept in parameters)
            for name, value in settings.items()
        },
    }
