"""Cases on many machines: a Dask client as one more ``concurrent.futures.Executor``."""

from __future__ import annotations

import logging
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYetError
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from segue.core.config import Settings, load_settings
from segue.core.console import duration, say, stage
from segue.core.errors import MachineError, UsageError
from segue.core.pool import Call, RetryingExecutor, WorkerLostError, interrupts_held

Item = TypeVar("Item")

_FORMS = "local:4, tcp://HOST:8786, slurm or slurm:SETTINGS.yaml"
_CONNECT_S = 20.0
_WATCHED_EVERY_S = 5.0
# A scheduler without any worker for so long is given up; a queue of SLURM may take its time.
_WORKERLESS_S = 120.0
# Of these the versions must be the same on both sides to the last digit, or results are not those of one program.
_SAME = ("segue", "python")
_ALIKE = ("numpy", "scipy", "torch", "nibabel", "pydicom", "SimpleITK", "dask", "distributed", "cloudpickle")


class SlurmSettings(Settings):
    """The YAML of ``--cluster slurm:SETTINGS.yaml``: what each job asks for, and how many there may be.

    What is not said here is as in Dask's own ``jobqueue.yaml``, where an institute may have put its values.

    Attributes:
        jobs: how many SLURM jobs at most; they come as the queue gives them and go when the command ends.
        cores: of each job.
        memory: of each job, such as ``64GB``.
        processes: workers in each job (one per core, if not given).
        interface: of the network, such as ``ib0``.
        directives: further lines of ``#SBATCH``, such as ``--gres=gpu:1``.
        prologue: shell lines before the worker starts, such as ``module load cuda``.
        python: the interpreter on the machines of the queue (this one, if not given).
        logs: a folder for the output of the jobs.
        scratch: a folder on a disk of their own.
    """

    jobs: int = Field(ge=1)
    cores: int = Field(ge=1)
    memory: str
    processes: int | None = Field(None, ge=1)
    queue: str | None = None
    account: str | None = None
    walltime: str | None = None
    interface: str | None = None
    directives: list[str] = []
    prologue: list[str] = []
    python: str | None = None
    logs: Path | None = None
    scratch: Path | None = None


class Cluster(RetryingExecutor):
    """The workers of a Dask scheduler. Each of their threads has one case at a time.

    What waits, waits here: of a worker that dies Dask blames every case that it had been given.
    """

    def __init__(self, client: Any, name: str, patient: bool) -> None:
        super().__init__()
        self._client, self._name, self._patient = client, name, patient
        self._pool = client.get_executor(pure=False)
        self._known: dict[str, int] = {}
        self._seen: set[Path] | None = None
        self._alone_since: float | None = None
        self._told: set[str] = set()

    @property
    def at_once(self) -> int:
        return max(1, sum(self._known.values()))

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        sent = tuple(_absolute(argument) for argument in arguments)
        if self._seen is None:
            self._seen = {folder for argument in sent for folder in _folders_of(argument)}
            self._known = {}
            self.look()
        return super().submit(function, *sent, **keywords)

    def _begin(self, call: Call) -> Future[Any]:
        try:
            return self._pool.submit(call.function, *call.arguments)
        except Exception as error:
            if self._client.status != "running":
                raise self._lost() from error
            raise

    def _end(self, call: Call, answer: Future[Any]) -> WorkerLostError | None:
        error = None if answer.cancelled() else answer.exception()
        if type(error).__name__ != "KilledWorker":
            return None
        if getattr(error, "allowed_failures", 0) > 0:
            call.tries += 1  # the scheduler has tried it again already
        return WorkerLostError(f"on {getattr(getattr(error, 'last_worker', None), 'address', 'a worker')}")

    def result_of(self, future: Future[Any]) -> Any:
        """Wait for a result, and watch the workers meanwhile.

        Raises:
            MachineError: the scheduler is lost, no worker is left, or one that came lately does not fit.
        """
        while True:
            try:
                return future.result(timeout=_WATCHED_EVERY_S)
            except NotYetError:
                if not future.done():
                    self.look()
            except CancelledError as error:
                raise self._lost() from error

    def look(self) -> None:
        """Learn which workers there are, and compare those that are new with this process.

        Raises:
            MachineError: see :meth:`result_of`.
        """
        if self._client.status == "closed":
            raise self._lost()
        if self._client.status != "running":
            return  # it tries to come back, and gives up by itself
        try:
            workers = {a: w["nthreads"] for a, w in self._client.scheduler_info()["workers"].items()}
            self._require_some(workers)
            new = [address for address in workers if address not in self._known]
            if new:
                self._compare(self._client.run(_facts, sorted(self._seen or ()), workers=new, on_error="return"))
        except OSError:
            return
        self._known = workers

    def _require_some(self, workers: Mapping[str, int]) -> None:
        if workers:
            self._alone_since = None
            return
        if self._alone_since is None:
            self._alone_since = time.monotonic()
            if self._known:
                say("no worker is left; waiting for another one")
        elif not self._patient and time.monotonic() - self._alone_since > _WORKERLESS_S:
            raise MachineError(
                "the scheduler has no worker",
                where=self._name,
                value=f"none for {duration(_WORKERLESS_S)}",
                remedy="start some (dask worker ADDRESS), then run the same command again: finished cases are kept",
            )

    def _compare(self, facts: Mapping[str, Any]) -> None:
        mine = _facts([])
        for worker, theirs in facts.items():
            if isinstance(theirs, OSError):
                continue  # gone again
            if isinstance(theirs, BaseException):
                raise MachineError(
                    "a worker cannot run segue",
                    where=worker,
                    value=f"{type(theirs).__name__}: {theirs}",
                    remedy=f"install segue {mine['versions']['segue']} in the environment of the workers",
                )
            if theirs["missing"]:
                raise MachineError(
                    "a worker does not see the data",
                    where=f"{worker} ({theirs['host']})",
                    value=theirs["missing"][0],
                    remedy="put data and results on a disk that all machines see by the same path",
                )
            for name in (*_SAME, *_ALIKE):
                here, there = mine["versions"][name], theirs["versions"][name]
                if here == there or (name in _ALIKE and None in (here, there)):
                    continue
                text = f"{name} {there or 'is missing'} there, {here} here"
                if name in _SAME:
                    raise MachineError(
                        "a worker runs another version",
                        where=f"{worker} ({theirs['host']})",
                        value=text,
                        remedy="give both sides the same environment",
                    )
                if text not in self._told:
                    self._told.add(text)
                    say(f"warning: workers have another version: {text}")

    def _lost(self) -> MachineError:
        return MachineError(
            "the scheduler is lost",
            where=self._name,
            remedy="start it again, then run the same command again: finished cases are kept",
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._pool.shutdown(wait)


def _facts(folders: list[Path]) -> dict[str, Any]:
    """In a worker: what it is, and which of these folders it does not see."""
    from importlib import import_module, metadata

    versions: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
    # By name: whoever imports core has no need of what the package itself imports.
    versions["segue"] = import_module("segue").__version__
    for name in _ALIKE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "versions": versions,
        "host": platform.node(),
        "missing": [str(folder) for folder in folders if not folder.is_dir()],
    }


def _absolute(item: Any) -> Any:
    """The same task with absolute paths: a worker stands in a folder of its own."""
    if isinstance(item, Path):
        return item if item.is_absolute() else Path.cwd() / item
    if isinstance(item, tuple | list):
        changed = [_absolute(each) for each in item]
        if all(one is other for one, other in zip(changed, item, strict=True)):
            return item
        return type(item)(*changed) if hasattr(item, "_fields") else type(item)(changed)
    if isinstance(item, dict):
        return {key: _absolute(each) for key, each in item.items()}
    if is_dataclass(item) and not isinstance(item, type):
        old = {each.name: getattr(item, each.name) for each in fields(item) if each.init}
        new = {name: _absolute(value) for name, value in old.items()}
        different = {name: value for name, value in new.items() if value is not old[name]}
        return replace(item, **different) if different else item
    return item


def _folders_of(item: Any) -> Iterator[Path]:
    """Folders that are there, in which the files of a task lie or will lie."""
    from segue.core.executor import paths_in

    for path in paths_in(item):
        yield next(folder for folder in (path, *path.parents) if folder.is_dir())


@contextmanager
def open_cluster(text: str, memory_gb: float | None = None) -> Iterator[Cluster]:
    """Connect to a Dask scheduler, or start one with its workers, for as long as the context lasts.

    Args:
        text: ``local:4``, ``tcp://HOST:8786`` (a Dask scheduler), ``slurm`` or ``slurm:SETTINGS.yaml``.
        memory_gb: of all workers of ``local:N`` together.

    Raises:
        UsageError: not understood. MachineError: Dask is missing, the scheduler does not answer, a worker does not fit.
    """
    kind, number, settings = _understood(text)
    if memory_gb is not None and kind != "local":
        raise UsageError(
            "the workers of a cluster have their own bound of memory",
            where=f"--memory with --cluster {text}",
            remedy="put 'memory' into the settings of the queue"
            if kind == "slurm"
            else "start them with: dask worker --memory-limit 16GB",
        )
    _require_dask("dask_jobqueue" if kind == "slurm" else "distributed")
    import dask
    from distributed import Client

    # The bounds below are what a worker may use; holding work back instead of ending could wait for ever.
    quiet = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.profile.enabled": False,  # it looks at each worker a hundred times a second
        "distributed.comm.timeouts.connect": f"{_CONNECT_S:.0f}s",
    }
    # What happens to workers is told here, in one line each.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with ExitStack() as opened, dask.config.set(quiet), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Warning, module="distributed")
        with interrupts_held():
            address: Any = text
            if kind == "local":
                address = opened.enter_context(_local(number, memory_gb))
            elif kind == "slurm":
                address = opened.enter_context(_slurm(settings))
            try:
                client = opened.enter_context(Client(address, timeout=_CONNECT_S, set_as_default=False))
            except (OSError, ValueError) as error:
                raise MachineError(
                    "the scheduler does not answer",
                    where=text,
                    value=f"within {_CONNECT_S:.0f} s",
                    remedy="check the address, and that the scheduler runs: dask scheduler",
                ) from error
        cluster = Cluster(client, text, kind == "slurm")
        cluster.look()
        if not cluster._known:
            _wait_for_workers(cluster)
        try:
            yield cluster
        except BaseException:
            cluster.shutdown(wait=False)
            raise


def _understood(text: str) -> tuple[str, int, SlurmSettings | None]:
    kind, _, rest = text.partition(":")
    if kind == "local" and re.fullmatch(r"[1-9][0-9]{0,3}", rest):
        return kind, int(rest), None
    if kind == "slurm":
        return kind, 0, load_settings(SlurmSettings, Path(rest)) if rest else None
    if re.fullmatch(r"(tcp|tls|ucx|ws|wss)://[^\s/]+:[0-9]+", text):
        return "address", 0, None
    raise UsageError("there is no such kind of cluster", where=f"--cluster {text}", remedy=f"one of {_FORMS}")


def _require_dask(module: str) -> None:
    import importlib.util

    for name in ("distributed", module):
        if importlib.util.find_spec(name) is None:
            raise MachineError(
                "working on a cluster needs Dask",
                value=f"the module {name} is not installed",
                remedy="pip install 'segue[dask]'",
            )


def _wait_for_workers(cluster: Cluster) -> None:
    with stage("workers") as shown:
        while not cluster._known:
            time.sleep(0.2)
            cluster.look()
        shown.note(f"{sum(cluster._known.values())} places for cases")


@contextmanager
def _local(count: int, memory_gb: float | None) -> Iterator[Any]:
    from distributed import LocalCluster

    each: Any = "auto" if memory_gb is None else int(memory_gb * 1e9 / count)
    with LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=each,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    ) as started:
        yield started


@contextmanager
def _slurm(settings: SlurmSettings | None) -> Iterator[Any]:
    import dask
    from dask_jobqueue import SLURMCluster

    given: dict[str, Any] = {}
    jobs = 1
    if settings is None:
        queue = dask.config.get("jobqueue.slurm", {})
        if not queue.get("cores") or not queue.get("memory"):
            raise UsageError(
                "what a job of the queue may use is not said",
                where="--cluster slurm",
                remedy="write jobs, cores, memory, queue and walltime into a file: --cluster slurm:SETTINGS.yaml",
            )
        jobs = int(queue.get("jobs", 1))
    else:
        jobs = settings.jobs
        given = {
            "cores": settings.cores,
            "memory": settings.memory,
            "processes": settings.processes or settings.cores,
            "queue": settings.queue,
            "account": settings.account,
            "walltime": settings.walltime,
            "interface": settings.interface,
            "job_extra_directives": settings.directives or None,
            "job_script_prologue": settings.prologue or None,
            "python": settings.python,
            "log_directory": None if settings.logs is None else str(settings.logs),
            "local_directory": None if settings.scratch is None else str(settings.scratch),
        }
    try:
        cluster = SLURMCluster(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError("these settings of the queue do not fit", where="--cluster slurm", value=error) from error
    refused: Exception | None = None
    try:
        with cluster:
            try:
                cluster.sync(_started, cluster, jobs)
            except (OSError, RuntimeError) as error:
                refused = error
            else:
                yield cluster
    except AssertionError:  # a cluster whose job was never handed in does not close without
        if refused is None:
            raise
    if refused is not None:
        raise MachineError(
            "the queue does not take the job",
            where="sbatch",
            value=str(refused).strip()[-300:],
            remedy="check the settings of the queue, and that sbatch runs on this machine",
        ) from refused


async def _started(cluster: Any, jobs: int) -> None:
    """Have the first jobs handed in. Within the cluster's own loop, so that it is here that what sbatch says about them
    is heard: the cluster hands them in once, and whoever asks later hears nothing."""
    cluster.scale(jobs=jobs)
    await cluster._correct_state()
