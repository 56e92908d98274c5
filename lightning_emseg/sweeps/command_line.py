"""The command of a trial, as `wandb agent` puts it together."""

from collections.abc import Sequence

from data_modules.errors import UserError
from lightning_emseg.sweeps.definition import Parameters, Sweep

VERBS = ("fit", "validate", "test", "predict")


def command_line(sweep: Sweep, parameters: Parameters) -> list[str]:
    """Words of the command with its macros filled in, by the functions of W&B that its agent uses.

    Args:
        sweep: Whose ``command`` is taken, or W&B's default one.
        parameters: Values that ``${args}`` and its like stand for.

    Returns:
        Words, the first of which is the executable.
    """
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    filled = create_sweep_command_args({"args": {name: {"value": value} for name, value in parameters.items()}})
    macros = {
        **filled,
        "env": ["/usr/bin/env"],
        "interpreter": ["python"],
        "program": [sweep.config.get("program", "")],
    }
    # W&B fills in environment variables in place.
    words = [str(word) for word in create_sweep_command(list(sweep.config.get("command", [])))]
    result: list[str] = []
    for word in words:
        result += macros[word[2:-1]] if word.startswith("${") and word[2:-1] in macros else [word]
    return result


def verb_of(sweep: Sweep) -> str:
    """Verb of ``lightning`` that the sweep's trials run.

    Raises:
        UserError: if its command has none.
    """
    found = [word for word in sweep.config.get("command", []) if word in VERBS]
    if not found:
        raise UserError(f"{sweep.path}: its command has none of {', '.join(VERBS)}, so it starts nothing of lightning")
    return str(found[0])


def training_first(words: Sequence[str]) -> list[str]:
    """The command that trains what another one, such as ``validate``, needs: ``fit`` of the same configuration."""
    result = ["fit" if word in VERBS else word for word in words]
    while "--ckpt_path" in result:
        at = result.index("--ckpt_path")
        del result[at : at + 2]
    return result
