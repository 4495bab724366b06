"""segue beside nnU-Net on a GPU: seconds of 250 iterations, how busy the GPU is, its memory, and Dice after minutes.

    python benchmarks/gpu.py --peer peers/nnunet/bin/python

One call prints a table. Both train the network, patch and batch that nnU-Net plans for 3d_fullres: those of the
decathlon's hippocampus (9 patches of 40x56x40, 4 levels), and those of large volumes (2 patches of 128^3, 6 levels) on
synthetic ones. nnU-Net runs its own benchmark trainers (gpu_peer.py), segue its own training loop: deep supervision and
loss included, checkpoints and validation left out of both.

loaded   batches are read and augmented: nnUNetTrainerBenchmark_5epochs
fixed    one batch, again and again: nnUNetTrainerBenchmark_5epochs_noDataLoading

Seconds are those of the fastest of five rounds, as nnU-Net's trainer tells them; nvidia-smi is asked twice a second how
busy the GPU is, over all rounds. segue computes in bfloat16, nnU-Net in float16 with scaled gradients and compiled;
segue's rows are with and without torch.compile. In the end segue trains the hippocampus for --minutes with settings of
its own, and its Dice over the validation images is printed.

Without --peer only segue is measured. vs_nnunet.py setup makes nnU-Net's environment, with torch's build for the GPU.
Without CUDA the script ends with exit code 4; a trial on a CPU, to see that it runs:

    python benchmarks/gpu.py --device cpu --iterations 2 --rounds 1 --patch 16 --minutes 0.1
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_use import HIPPOCAMPUS, SYNTHETIC, GpuUse, Work
from loader import make_volume
from vs_nnunet import FILES, SOURCE, Places, bring, own_table, prepare_nnunet, run_segue

NO_CUDA = 4
SPACING_MM = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Row:
    """A line of the table: which work and batches, and what a program needed."""

    work: str
    batches: str
    program: str
    seconds: float
    busy: float | None
    memory_gb: float | None

    @staticmethod
    def of(work: Work, fixed: bool, program: str, told: dict[str, Any]) -> Row:
        how = "fixed" if fixed else "loaded"
        return Row(work.name, how, program, min(told["seconds"]), told["busy"], told["memory_gb"])


def table(rows: Sequence[Row], iterations: int) -> str:
    """The rows, and how many times nnU-Net's speed each is on the same work."""
    theirs = {(row.work, row.batches): row.seconds for row in rows if row.program == "nnU-Net"}
    lines = [f"| work | batches | program | s / {iterations} iterations | times nnU-Net | GPU busy | peak GPU GB |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        beside = theirs.get((row.work, row.batches))
        times = "" if beside is None else f"{beside / row.seconds:.2f}"
        busy = "" if row.busy is None else f"{row.busy:.0f} %"
        memory = "" if row.memory_gb is None else f"{row.memory_gb:.2f}"
        cells = [row.work, row.batches, row.program, f"{row.seconds:.1f}", times, busy, memory]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plans_for(plans: dict[str, Any], work: Work) -> dict[str, Any]:
    """nnU-Net's plans with the work's patch, batch and network in ``3d_fullres``."""
    made = json.loads(json.dumps(plans))
    made["plans_name"] = plans_name(work)
    chosen = made["configurations"]["3d_fullres"]
    chosen |= {"patch_size": list(work.patch)[::-1], "batch_size": work.batch}
    chosen["architecture"]["arch_kwargs"] |= {
        "n_stages": work.levels,
        "features_per_stage": work.widths,
        "kernel_sizes": [[3] * 3] * work.levels,
        "strides": work.strides,
        "n_conv_per_stage": [2] * work.levels,
        "n_conv_per_stage_decoder": [2] * (work.levels - 1),
    }
    return made


def plans_name(work: Work) -> str:
    return f"nnUNetPlans_{work.name}"


def nnunet(work: Work, fixed: bool, folder: Path, places: Places, options: argparse.Namespace) -> Row:
    """nnU-Net's own benchmark trainer on the dataset preprocessed in ``folder``, in a process of its own."""
    command = [
        options.peer,
        HERE / "gpu_peer.py",
        folder,
        "--plans",
        plans_name(work),
        *(["--fixed"] if fixed else []),
    ]
    command += ["--rounds", options.rounds, "--iterations", options.iterations, "--device", options.device]
    # Compiled and with as many processes of augmentation as nnU-Net likes; compiling for a CPU takes minutes.
    keys = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    environment = {key: places.environment[key] for key in keys}
    environment |= {"nnUNet_compile": "false"} if options.device == "cpu" else {}
    words = [str(word) for word in command]
    done = subprocess.run(words, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout[-2000:]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return Row.of(work, fixed, "nnU-Net", told)


class Paced:
    """An objective that notes when each round begins, the device having finished the one before; with ``fixed`` it
    gives the first batch again and again."""

    can_validate = False

    def __init__(self, objective: Any, iterations: int, fixed: bool) -> None:
        self.objective, self.iterations, self.fixed = objective, iterations, fixed
        self.began: list[float] = []
        self._batch: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def batch(self, step: int, device: Any, vary: bool) -> Any:
        import torch

        if self.fixed and self._batch is None:
            self._batch = self.objective.batch(0, device, vary)
        if step % self.iterations == 0:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            self.began.append(time.perf_counter())
        return self._batch if self.fixed else self.objective.batch(step, device, vary)

    @property
    def seconds(self) -> list[float]:
        return [after - before for before, after in zip(self.began, self.began[1:], strict=False)]


def segue(plan: Any, cases: Sequence[Any], fixed: bool, compiled: bool, options: argparse.Namespace) -> dict[str, Any]:
    """segue's training loop on prepared cases, for all rounds and one step more, which ends the last."""
    import torch

    from segue.prepare import Budget
    from segue.train import MaskObjective, Run, Trainer, TrainSettings, TrainTask

    device = torch.device(options.device)
    settings = TrainSettings(save_every_s=1e9)
    paced = Paced(MaskObjective(plan, 0, cases, [], settings), options.iterations, fixed)
    task = TrainTask(plan, settings, Budget(steps=options.rounds * options.iterations + 1), 0)
    precision = "bfloat16" if device.type == "cuda" else "float32"
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder, GpuUse() as use:
        trainer = Trainer(task, paced, Run(Path(folder)), device, precision=precision, compiled=compiled)
        trainer.fit()
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return {"seconds": paced.seconds, "busy": use.mean, "memory_gb": memory}


def hippocampus_cases(work: Work, reference: str, places: Places) -> tuple[Any, list[Any]]:
    """The plan with the work's network and batch, and the prepared cases of the training set."""
    from segue.workflow.experiment import Experiment
    from segue.workflow.look import prepare_all
    from segue.workflow.planning import brought, make_plan

    wanted = Experiment.model_validate(
        {
            "dataset": reference,
            "data": places.data,
            "plan": {"patch": work.patch, "batch": work.batch},
            "network": {"args": network_args(work)},
        }
    )
    planned = make_plan(wanted, brought(wanted), fit=False)
    ready = prepare_all(planned.dataset, planned.sound, planned.plan, wanted.cache_folder)
    return planned.plan, list(ready.values())


def synthetic_cases(work: Work, folder: Path) -> tuple[Any, list[Any]]:
    """The same of two made volumes, half as large again as the patch."""
    from segue.catalogue import Case, Channel
    from segue.prepare import Network, Normalisation, Plan, PreparedCase

    plan = Plan(
        dataset="synthetic",
        dimension=3,
        channels=[Channel(name="CT", unit="HU")],
        labels={1: "liver", 2: "spleen", 3: "lesion"},
        ignore_label=None,
        spacing_mm=SPACING_MM,
        normalisation=[Normalisation(kind="hu", low=-160, high=240, mean=60, std=60)],
        patch=work.patch,
        batch=work.batch,
        network=Network(args=network_args(work)),
        mirror_axes=[0],
        foreground_share=1 / 3,
        overlap=0.5,
        reasons={},
    )
    cases = []
    i, j, k = (side + side // 2 for side in work.patch)
    for number in range(2):
        make_volume(folder / str(number), (i, j, k), number)
        cases.append(PreparedCase(Case(f"case{number}", f"patient{number}", ()), folder / str(number)))
    return plan, cases


def network_args(work: Work) -> dict[str, Any]:
    """nnU-Net's network as the arguments of segue's."""
    return {
        "channels": work.widths,
        "strides": work.strides,
        "stem_stride": [1, 1, 1],
        "blocks": 2,
        "deep_supervision": True,
    }


def measure(options: argparse.Namespace) -> list[Row]:
    compilings = [False, True] if options.device == "cuda" else [False]
    works = [work.cubes(options.patch) if options.patch else work for work in (HIPPOCAMPUS, SYNTHETIC)]
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        print(f"{row.work}, {row.batches}, {row.program}: {row.seconds:.2f} s", file=sys.stderr, flush=True)

    with places_of(options) as places, tempfile.TemporaryDirectory() as temporary:
        dataset = bring("hippocampus", places, options.files)
        if options.peer:
            if not places.preprocessed(dataset).is_dir():
                prepare_nnunet(dataset, places, options.peer.parent.parent)
            plans = json.loads((places.preprocessed(dataset) / "nnUNetPlans.json").read_text())
            for work in works:
                path = places.preprocessed(dataset) / f"{plans_name(work)}.json"
                path.write_text(json.dumps(plans_for(plans, work)))
        sources = [
            hippocampus_cases(works[0], dataset.reference, places),
            synthetic_cases(works[1], Path(temporary)),
        ]
        for work, (plan, cases) in zip(works, sources, strict=True):
            for fixed in (False, True):
                # The hippocampus's patches are the only ones that nnU-Net has prepared.
                if options.peer and (fixed or work.name == "hippocampus"):
                    add(nnunet(work, fixed, places.preprocessed(dataset), places, options))
                for compiled in compilings:
                    program = "segue, compiled" if compiled else "segue"
                    add(Row.of(work, fixed, program, segue(plan, cases, fixed, compiled, options)))
        if options.minutes:
            run = Path(temporary) / "run"
            words = ["train", dataset.reference, "--data", places.data, "-o", run, "--minutes", options.minutes]
            found = run_segue([*words, "--device", options.device], places.work / "train.log")
            print(f"segue train --minutes {options.minutes:g}, {found.seconds:.0f} s in all\n{own_table(run)}\n")
    return rows


@contextmanager
def places_of(options: argparse.Namespace) -> Iterator[Places]:
    with tempfile.TemporaryDirectory() as temporary:
        places = Places(options.work.resolve() if options.work else Path(temporary))
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            Path(places.environment[name]).mkdir(parents=True, exist_ok=True)
        yield places


HERE = Path(__file__).resolve().parent


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="the Python of nnU-Net's environment")
    parser.add_argument("--files", type=Path, default=FILES, help="holds msd/Task04_Hippocampus")
    parser.add_argument("--work", type=Path, help="keep datasets here (default: a temporary folder)")
    parser.add_argument("--iterations", type=int, default=250, help="of a round")
    parser.add_argument("--rounds", type=int, default=5, help="the fastest of which counts")
    parser.add_argument("--minutes", type=float, default=5.0, help="of segue's own training; 0: none")
    parser.add_argument("--patch", type=int, help="cubes of this side instead, a multiple of 4: a trial")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options = parser.parse_args(words)
    if options.patch is not None and (options.patch < 8 or options.patch % 4):
        parser.error(f"--patch {options.patch}: give a multiple of 4, 8 at least")
    if min(options.iterations, options.rounds) < 1:
        parser.error("--iterations and --rounds are at least 1")
    if options.peer and not options.peer.exists():
        parser.error(f"--peer {options.peer}: not there; vs_nnunet.py setup makes nnU-Net's environment")
    options.peer = options.peer.absolute() if options.peer else None
    return options


def require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        print(f"no GPU to measure on: torch {torch.__version__} sees no CUDA device", file=sys.stderr)
        raise SystemExit(NO_CUDA)


def main() -> None:
    options = parse()
    sys.path.insert(0, str(SOURCE))
    if options.device == "cuda":
        require_cuda()
        import torch

        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    rows = measure(options)
    print(table(rows, options.iterations))


if __name__ == "__main__":
    main()
