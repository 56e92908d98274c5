"""Commands of ``lightning`` in turn, in one process: ``commands_in_turn.py '[["fit", ...], ["test", ...]]'``."""

import json
import sys

from lightning_emseg import cli

if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        cli.main(words)
