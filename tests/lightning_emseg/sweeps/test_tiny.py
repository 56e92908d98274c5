"""Values that make a trial tiny."""

from pathlib import Path

from lightning_emseg.sweeps.tiny import tiny


def test_only_parameters_of_a_sweep_are_set(tmp_path: Path) -> None:
    plain = tiny({"model.init_args.encoder": "resnet18"}, tmp_path, tmp_path)
    assert not [name for name in plain if name.startswith(("model.", "trainer.callbacks"))]
    callbacks = tiny({"trainer.callbacks.init_args.method.init_args.steps": 5}, tmp_path, tmp_path)
    assert callbacks["trainer.callbacks.init_args.per_outcome"] == 1
    weights = tiny({"model.init_args.encoder_weights": "imagenet"}, tmp_path, tmp_path)
    assert weights["model.init_args.encoder_weights"] == "null"
