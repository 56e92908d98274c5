"""``emseg demo``: from synthetic mosaics to scores, a picture and a stitched prediction."""

from pathlib import Path

from data_modules.errors import UserError
from lightning_emseg import cli
from lightning_emseg.commands.baselines import baseline_tables


def demo(config: Path = Path("experiments/demo.yaml"), out: Path = Path("runs/demo")) -> str:
    """Synthesise mosaics, train, test and predict, then compare with two trivial baselines.

    Args:
        config: Experiment to run; its data must be of the class ``SyntheticMosaics``.
        out: Run folder.

    Raises:
        UserError: if the experiment does not exist.
    """
    if not config.is_file():
        raise UserError(f"no experiment at {config}: run `emseg demo` in the project's folder, or pass --config FILE")
    store, prediction = out / "mosaics.zarr", out / "prediction.zarr"
    common = ["--config", str(config), "--trainer.default_root_dir", str(out), "--data.store", str(store)]
    best = ["--ckpt_path", str(out / "checkpoints" / "best.ckpt")]
    cli.main(["fit", *common])
    cli.main(["test", *common, *best])
    cli.main(["predict", *common, *best, "--writer.out", str(prediction), "--writer.overwrite", "true"])
    parts = [f"{name}\n{table.text()}" for name, table in baseline_tables(store, "test", "train", "membrane").items()]
    parts += [f"the network\n{(out / 'scores-test.txt').read_text()}"]
    pictures = sorted((out / "figures").glob("test-*.png"))
    return "\n\n".join(
        [
            "",
            *parts,
            f"overlay picture:  {pictures[0]}\nprediction store: {prediction}\n"
            f"scores:           {out / 'scores-test.csv'}, {out / 'scores-test.json'}",
        ]
    )
