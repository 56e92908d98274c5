"""Commands of a long measurement, typed as a user types them; what is finished is not run again."""

import os
import subprocess
import sys
import time
from pathlib import Path


class Steps:
    """Commands, each with a log of its output, which is there once the command has succeeded.

    Args:
        logs: Folder of the logs.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs

    def run(self, name: str, program: str, *words: str) -> None:
        """Run a command of this environment on one thread, unless its log is there.

        Args:
            name: Of the log.
            program: ``emseg`` or ``lightning``.
            words: Behind it.

        Raises:
            RuntimeError: with the end of its output, if it fails.
        """
        log = self.logs / f"{name}.log"
        if log.is_file():
            return
        self.logs.mkdir(parents=True, exist_ok=True)
        part = log.with_suffix(".partial")
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        with part.open("w") as file:
            print(program, *words, file=file, flush=True)
            command = [str(Path(sys.executable).with_name(program)), *words]
            one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
            status = subprocess.run(command, stdout=file, stderr=file, env=one_thread).returncode
        if status:
            raise RuntimeError(f"{program} {' '.join(words)} ended with status {status}: {part.read_text()[-2000:]}")
        part.replace(log)
