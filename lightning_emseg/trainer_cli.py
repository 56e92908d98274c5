"""Verbs of ``lightning``: a LightningCLI with this project's defaults, and messages instead of tracebacks."""

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.io import CheckpointIO, TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_info
from torch import nn

from data_modules.errors import UserError
from lightning_emseg import callbacks
from lightning_emseg.callbacks.run_folder import keep_wandb_run, make_room
from lightning_emseg.core import checkpoints
from lightning_emseg.core.messages import SHORT_NAMES, ReadableParser, refusal
from lightning_emseg.core.process import explain_failure

_HINTS = (
    # Loaders give whole batches of their own; these hints do not apply to them.
    "does not have many workers which may be a bottleneck",
    "Trying to infer the `batch_size` from an ambiguous collection",
    "The number of training batches .* is smaller than the logging interval",
    # The run folder has put those files aside.
    "Previous log files in this directory will be deleted",
    # A rank without rows of a mosaic has nothing to count, which is no mistake.
    "method of metric (MosaicCounts|MeanMetric) was called before the ``update``",
    # Every rank logs the same scores, of counts that are summed over all.
    "It is recommended to use `self.log\\('((val|val_tiles|test)/|f1').*sync_dist=True",
    # Lightning 2.6 under newer torch.
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
)
"""Warnings of Lightning and torchmetrics that do not apply here, as regular expressions."""


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
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            checkpoints.write(checkpoint, Path(path))

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
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        return checkpoints.read(Path(path))


def expect_frozen(module: nn.Module) -> None:
    """Silence Lightning's warning of modules in evaluation mode at the start of training, where these are the expected.

    Expected are those that ``train()`` leaves so, as the frozen encoder of a ``UNet`` with ``freeze_norms``. Where
    others are in evaluation mode too, their number is another one and Lightning warns as ever. No mode is changed.

    Args:
        module: Module that is about to be fitted.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    frozen = sum(not part.training for part in module.modules())
    for part, mode in modes:
        part.training = mode
    if frozen:
        warnings.filterwarnings("ignore", message=rf"Found {frozen} module\(s\) in eval mode at the start of training")


class RunConfig(SaveConfigCallback):
    """Saves the resolved configuration in the run folder: ``config.yaml`` of a fit, ``config-<verb>.yaml`` else."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the file; called on rank 0."""
        assert trainer.state.fn is not None
        name = "config.yaml" if stage == "fit" else f"config-{trainer.state.fn.value}.yaml"
        path = Path(trainer.default_root_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, path, skip_none=False, overwrite=True)


class EmsegCLI(LightningCLI):
    """``lightning fit|validate|test|predict --config FILE``."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the prediction writer and the checkpoint callback under short keys, and list short names of classes."""
        parser.add_lightning_class_args(callbacks.PredictionWriter, "writer")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val_tiles/f1",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
                "checkpoint.enable_version_counter": False,
            }
        )
        for kind, names in SHORT_NAMES.items():
            parser.add_argument_group(f"Short names of classes: {kind}", ", ".join(names))

    def _parse_ckpt_path(self) -> None:
        """Leave configuration and flags as they are: Lightning would let the checkpoint's override them."""

    def before_instantiate_classes(self) -> None:
        """Find the weights, refuse broken ones early, and keep predictions out of memory, as they are written.

        Raises:
            UserError: if a checkpoint is broken, or a verb other than ``fit`` would run on random weights.
        """
        verb = str(self.subcommand)
        given = self.config[verb].get("ckpt_path")
        if not given and verb != "fit":
            given = self.config[verb].ckpt_path = str(best_of_run(Path(self.config[verb].trainer.default_root_dir)))
        if given and given not in ("best", "last", "hpc"):
            checkpoints.read(Path(given))
        # For strategies that read their checkpoints themselves: torch's own default can be turned off from outside.
        self.config[verb].weights_only = True
        if verb == "predict":
            self.config[verb].return_predictions = False

    def instantiate_classes(self) -> None:
        """Make trainer, model and data; what refuses its arguments is quoted without jsonargparse's account of types.

        Raises:
            UserError: with the message of the class that refused.
        """
        try:
            super().instantiate_classes()
            # Loader workers are forked off a process that has imported the data module once.
            multiprocessing.set_forkserver_preload([type(self.datamodule).__module__])
        except ValueError as error:
            if isinstance(error, UserError) or "Given value type:" not in str(error):
                raise
            raise UserError(refusal(str(error))) from error

    def before_fit(self) -> None:
        """Put an earlier run in the same folder aside, or continue it in W&B too, before any logger writes.

        Encoders that are frozen on purpose are no reason for a warning.
        """
        expect_frozen(self.model)
        resumed = bool(self._get(self.config, "ckpt_path"))
        make_room(self.trainer, resumed)
        keep_wandb_run(self.trainer, resumed)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Put everything of a run into ``trainer.default_root_dir`` and always keep a CSV log of a fit."""
        root = Path(self._get(self.config_init, "trainer").default_root_dir)
        checkpoint = self._get(self.config_init, "checkpoint")
        checkpoint.dirpath = checkpoint.dirpath or str(root / "checkpoints")
        logger = self._get(self.config_init, "trainer").logger
        if logger is not False and self.subcommand == "fit":
            others = logger if isinstance(logger, list) else [logger] if isinstance(logger, pl.loggers.Logger) else []
            kwargs["logger"] = [CSVLogger(root, name="", version=""), *others]
        elif not isinstance(logger, list | pl.loggers.Logger):
            kwargs["logger"] = False
        given = self._get(self.config_init, "trainer").callbacks or []
        given = given if isinstance(given, list) else [given]
        shown = self._get(self.config_init, "trainer").enable_progress_bar is not False
        if shown and not any(isinstance(callback, ProgressBar) for callback in given):
            kwargs["callbacks"] = [*given, callbacks.MegapixelProgressBar()]
        self.trainer_defaults["callbacks"] = [
            callbacks.RunFolder(),
            callbacks.ScoreFiles(),
            callbacks.Overlays(),
            callbacks.ErrorMaps(),
            callbacks.Throughput(),
            callbacks.FiniteLoss(),
            callbacks.KeyedRandomness(),
            callbacks.ResumablePlateau(),
            callbacks.LastCheckpoint(),
            # The last one, as callbacks behind it would not be told of the last batch.
            callbacks.Preemption(),
        ]
        plugins = self._get(self.config_init, "trainer").plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, AtomicCheckpoints()]
        return super().instantiate_trainer(**kwargs)


def best_of_run(folder: Path) -> Path:
    """Find the best checkpoint of the run in ``folder``.

    Raises:
        UserError: if there is none, so that no verb scores random weights unasked.
    """
    best = folder / "checkpoints" / "best.ckpt"
    if not best.is_file():
        raise UserError(f"no trained weights: pass --ckpt_path FILE, or train first (there is no {best})")
    rank_zero_info(f"weights: {best} (choose others with --ckpt_path)")
    return best


def run(args: Sequence[str] | None = None) -> None:
    """Run a verb; mistakes of the user end with one message and exit status 1.

    Args:
        args: Words of the command line; those of the process by default.
    """
    for hint in _HINTS:
        warnings.filterwarnings("ignore", message=f".*{hint}")
    # W&B would ask for a login, which a batch job cannot give.
    if "WANDB_API_KEY" not in os.environ and not (Path.home() / ".netrc").exists():
        os.environ.setdefault("WANDB_MODE", "offline")
    # Typing's cache takes `Union[int, float]` for any `Union[float, int]` that another package wrote earlier, so that
    # `--trainer.limit_train_batches 1` was read as 1.0, which is all batches. `int | float` is not cached.
    for name, kind in pl.Trainer.__init__.__annotations__.items():
        if set(get_args(kind)) == {int, float, type(None)}:
            pl.Trainer.__init__.__annotations__[name] = int | float | None
    try:
        EmsegCLI(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=ReadableParser,
            save_config_callback=RunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=0,
            trainer_defaults={
                "default_root_dir": "runs/unnamed",
                # Our samplers share the work out themselves; Lightning's would pad it with repeated patches.
                "use_distributed_sampler": False,
            },
            args=None if args is None else list(args),
        )
    except (UserError, MisconfigurationException) as error:
        sys.exit(f"error: {plain_message(error)}")
    except (RuntimeError, MemoryError, OSError) as error:
        text = explain_failure(error)
        if text is None:
            raise
        sys.exit(f"error: {text}")


def plain_message(error: Exception) -> str:
    """Return the message alone, where a loader process has wrapped it into its traceback."""
    text = str(error)
    marker = f"{UserError.__module__}.{UserError.__name__}: "
    return text.split(marker)[-1].strip() if text.startswith("Caught ") and marker in text else text
