"""The command ``lightning``: its own help at once, its verbs through a LightningCLI."""

import argparse
import sys
from collections.abc import Sequence

from lightning_emseg import __version__
from lightning_emseg.core.process import keep_freed_memory

VERBS = {
    "fit": "Train a network.",
    "validate": "Score a checkpoint on the validation split.",
    "test": "Score a checkpoint on whole mosaics of the test split.",
    "predict": "Write stitched predictions of whole mosaics.",
}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Words of the command line; those of the process by default.
    """
    keep_freed_memory()
    words = sys.argv[1:] if args is None else args
    if not words or words[0] in ("-h", "--help", "--version"):
        build_outline().parse_args(words)
    from lightning_emseg.trainer_cli import run  # imports torch and Lightning, which help does not wait for

    run(args)


def build_outline() -> argparse.ArgumentParser:
    """Build a parser that knows the verbs by name only."""
    parser = argparse.ArgumentParser("lightning", description="Train, score and run segmentation networks.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(
        title="verbs", metavar="VERB", required=True, description="`lightning VERB --help` lists the options of one."
    )
    for name, summary in VERBS.items():
        verbs.add_parser(name, help=summary)
    return parser


if __name__ == "__main__":
    main()
