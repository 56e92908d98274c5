"""Two hosts on one machine: network namespaces that share a file system and a cable, but no loopback."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT


@dataclass(frozen=True)
class Host:
    """Where one share of a job runs.

    Attributes:
        address: That the other host reaches it at.
        interface: Whose address that is.
        umask: Of its processes; the mode of a file tells which host made it.
        namespace: Name of its network, or ``None`` on this machine's own.
    """

    address: str
    interface: str
    umask: int
    namespace: str | None = None

    def command(self, words: Sequence[str]) -> list[str]:
        """What runs ``words`` there."""
        return [*(["ip", "netns", "exec", self.namespace] if self.namespace else []), *words]

    def bytes_received(self) -> int:
        """Over the interface, since it was made."""
        return int(self._ask("cat", f"/sys/class/net/{self.interface}/statistics/rx_bytes"))

    def interfaces(self) -> set[str]:
        """Names of all networks that the host has."""
        return set(self._ask("ls", "/sys/class/net").split())

    def _ask(self, *words: str) -> str:
        # `ip netns exec` mounts a /sys of the namespace.
        return subprocess.run(self.command(words), check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def two_namespaces() -> Iterator[tuple[Host, Host]]:
    """Two namespaces joined by a veth pair, removed at the end whatever happens.

    Raises:
        OSError: if this user or this machine cannot make namespaces.
    """
    names = [f"emseg-{os.getpid()}-{number}" for number in range(2)]
    hosts = [Host(f"10.83.7.{n + 1}", "wire", umask, names[n]) for n, umask in enumerate((0o022, 0o027))]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", "wire", "netns", names[0], "type", "veth", "peer", "name", "wire", "netns", names[1])
        for host, name in zip(hosts, names, strict=True):
            _ip("-n", name, "address", "add", f"{host.address}/24", "dev", "wire")
            _ip("-n", name, "link", "set", "wire", "up")
        yield hosts[0], hosts[1]
    finally:
        for name in names:
            # The pair of devices goes with the first namespace.
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def loopback() -> tuple[Host, Host]:
    """This machine twice."""
    return Host("127.0.0.1", "lo", 0o022), Host("127.0.0.1", "lo", 0o027)


class Job:
    """``lightning`` under ``torchrun``, one process on each host; several commands run one after the other in it.

    Args:
        hosts: The first one holds the rendezvous.
        folder: Where each host's output goes, to ``<name>-<host>.log``.
        name: Of the job.
        commands: Arguments of ``lightning``, each a command's.
        restarts: Times that torchrun starts the processes again after one has failed.
    """

    def __init__(
        self, hosts: Sequence[Host], folder: Path, name: str, commands: Sequence[Sequence[str]], restarts: int = 0
    ) -> None:
        self.logs = [folder / f"{name}-{number}.log" for number in range(len(hosts))]
        endpoint = f"{hosts[0].address}:{_free_port()}"
        shape = ["--trainer.num_nodes", str(len(hosts)), "--trainer.devices", "1", "--trainer.strategy", "ddp"]
        if len(commands) == 1:
            program = ["-m", "lightning_emseg", *commands[0], *shape]
        else:
            program = ["-m", "tests.support.commands_in_turn"]
            program += [json.dumps([[*words, *shape] for words in commands])]
        self._processes = []
        for number, (host, log) in enumerate(zip(hosts, self.logs, strict=True)):
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(len(hosts))]
            torchrun += ["--nproc-per-node", "1", "--max-restarts", str(restarts), "--rdzv-backend", "c10d"]
            # Both namespaces answer to the name of this machine, so that names cannot tell the hosts apart.
            torchrun += ["--rdzv-endpoint", endpoint, "--rdzv-conf", f"is_host={number == 0}"]
            torchrun += ["--rdzv-id", name, "--local-addr", host.address]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
            # With a store of its own for every start; agents that count their restarts differently would mix them up.
            environment |= {"GLOO_SOCKET_IFNAME": host.interface, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
            with log.open("w") as output:
                self._processes.append(
                    subprocess.Popen(
                        host.command([*torchrun, *program]),
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        cwd=folder,
                        umask=host.umask,
                        start_new_session=True,
                    )
                )

    def finish(self, timeout_s: float = 300) -> list[str]:
        """Wait for both hosts; returns what each has printed."""
        end = time.monotonic() + timeout_s
        try:
            codes = [process.wait(max(1.0, end - time.monotonic())) for process in self._processes]
        finally:
            self.kill()
        printed = [log.read_text() for log in self.logs]
        assert codes == [0] * len(codes), "\n".join(each[-3000:] for each in printed)
        return printed

    def kill(self) -> None:
        """End what is left of both hosts' processes."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def worker(self, number: int) -> int:
        """Process id of the worker that runs on a host now, below its torchrun."""
        (child,) = (
            Path(f"/proc/{self._processes[number].pid}/task/{self._processes[number].pid}/children").read_text().split()
        )
        return int(child)


def _ip(*words: str) -> None:
    try:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise OSError(error.stderr.strip()) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
