"""The commands. Everything heavy is imported inside them, so that ``--help`` is instant."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import segue
from segue.cli.catalogue import card_app, datasets, export_app
from segue.cli.looking import check, doctor, view
from segue.cli.options import (
    Cache,
    Cluster,
    Data,
    Dataset,
    Device,
    Epochs,
    Hours,
    Memory,
    Minutes,
    Set,
    Shard,
    SkipBad,
    Steps,
    Workers,
    at_hand,
    begin_work,
)
from segue.core.console import result, say

VERBS = (
    *("demo", "datasets", "get", "card", "convert", "check", "plan"),
    *("prepare", "train", "predict", "evaluate", "export", "view", "doctor"),
)


class _InOrder(TyperGroup):
    def list_commands(self, context: object) -> list[str]:
        return [verb for verb in VERBS if verb in self.commands]


app = typer.Typer(
    name="segue",
    cls=_InOrder,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From the name of a medical-imaging dataset to a trained, evaluated, inspectable model.\n\n"
    "Start with: segue demo",
)


def _version(wanted: bool) -> None:
    if wanted:
        result(f"segue {segue.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    # A batch system that takes its node back sends SIGTERM: the same as Ctrl-C, everything is saved.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


app.command()(datasets)
app.add_typer(card_app, name="card")
app.add_typer(export_app, name="export")


@app.command()
def demo(
    data: Data = Path("data"),
    runs: Annotated[Path, typer.Option(help="Where run folders lie.")] = Path("runs"),
    minutes: Annotated[float, typer.Option(help="Minutes of training.")] = 4.0,
) -> None:
    """Synthetic PET/CT, trained on and measured, in five minutes.

    Example: segue demo
    """
    from segue.workflow.demo import demo as run_demo

    _summarise(*run_demo(data, runs, minutes))


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="A dataset's name, or a card (.yaml).")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="What you downloaded: a folder, an archive, several of them, or an address."),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where datasets lie.")] = Path("data"),
    release: Annotated[str | None, typer.Option(help="Another copy of the data (segue datasets NAME).")] = None,
    cases: Annotated[int | None, typer.Option(min=1, help="Bring only so many cases.")] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what would come, and stop.")] = False,
    check_again: Annotated[bool, typer.Option("--verify", help="Compare with what came, offline.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy files instead of linking them.")] = False,
    look_alike: Annotated[int | None, typer.Option(min=1, help="Make N tiny synthetic cases in its layout.")] = None,
    number: Annotated[int, typer.Option("-n", min=1, help="Synthetic data: how many patients.")] = 10,
    size: Annotated[str, typer.Option(help="Synthetic data: full or small.")] = "full",
    negatives: Annotated[float, typer.Option(min=0, max=1, help="Synthetic data: part without lesions.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Synthetic data: another seed, other patients.")] = 0,
    workers: Workers = None,
) -> None:
    """Download, import or generate a dataset.

    Stopped at any moment, the same command goes on. Where a person must register, it says how, and imports
    what was downloaded by hand.

    Example: segue get msd/hippocampus
    """
    from segue.acquire import GetOptions
    from segue.catalogue import resolve
    from segue.core.errors import UsageError
    from segue.workflow import getting

    if size not in ("full", "small"):
        raise UsageError("there are two sizes, full and small", where=f"--size {size}")
    card, root = resolve(name, output, release=release)
    own_place = output / card.name
    if name.endswith((".yaml", ".yml")) and (source is not None or card.downloadable or own_place.is_dir()):
        root = own_place
    if dry:
        result("\n".join(getting.forecast(card, root)))
    elif check_again:
        _say_verified(getting.check_receipt(root), name)
    else:
        synthetic = None
        if card.access.kind == "generated":
            from segue.synth import PetCtSettings

            synthetic = PetCtSettings(size=size, negatives=negatives, seed=seed)  # type: ignore[arg-type]
        options = GetOptions(source and at_hand(source, output), copy, cases, look_alike, number, synthetic, workers)
        result("\n".join(getting.bring(card, root, options)))
        here = root if name.endswith((".yaml", ".yml")) else name
        result(f"next: segue check {here}" + ("" if output == Path("data") else f" --data {output}"))


def _say_verified(verified: Any, name: str) -> None:
    for what, names in (("missing", verified.missing), ("changed", verified.changed)):
        for each in names:
            result(f"{what}: {each}")
    if verified.unexpected:
        result(f"not there when it came: {len(verified.unexpected)} files, such as {verified.unexpected[0]}")
    result(
        f"{verified.files} files: {len(verified.missing)} missing, {len(verified.changed)} changed "
        f"({verified.hashed} compared by content, the others by size)"
    )
    if not verified.sound:
        result(f"to mend it: remove the folder (of DICOM: only the folders of these series), then segue get {name}")
        raise typer.Exit(3)


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="DICOM_FOLDER", help="A folder with DICOM files in it, or its address."),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Where PATIENT/STUDY folders are written.")],
    suv: Annotated[str, typer.Option(help="Rule of SUV: standard or autopet-compat.")] = "standard",
    suv_type: Annotated[str, typer.Option(help="bw, lbm, lbm-james, lbm-janma, ibw or bsa.")] = "bw",
    series: Annotated[
        list[str] | None, typer.Option(help="Series Instance UID to take where several could be meant.")
    ] = None,
    keep_ids: Annotated[bool, typer.Option("--keep-ids", help="Name folders by Patient ID, not by pseudonym.")] = False,
    data: Data = Path("data"),
    workers: Workers = None,
    cluster: Cluster = None,
    shard: Shard = None,
    memory: Memory = None,
) -> None:
    """Turn DICOM studies into volumes, SUV and masks.

    PET becomes SUV, CT comes to its grid, RTSTRUCT and DICOM-SEG become masks.

    OUT/convert.csv has a line for each study and series. Stopped at any moment, the same command goes on.
    Exit code 3 if something could not be converted.

    Example: segue convert exports/ data/clinic
    """
    from segue.workflow.converting import convert as run_convert
    from segue.workflow.converting import options

    begin_work(cluster, shard, memory)
    lines, failed = run_convert(at_hand(source, data), output, options(suv, suv_type, series or [], keep_ids, workers))
    result("\n".join(lines))
    if failed:
        raise typer.Exit(3)


app.command()(check)


@app.command()
def plan(
    dataset: Dataset,
    data: Data = Path("data"),
    minutes: Minutes = None,
    hours: Hours = None,
    epochs: Epochs = None,
    steps: Steps = None,
    memory: Annotated[str | None, typer.Option(help="What training may use at most, for example 8GB.")] = None,
    device: Device = "auto",
    assignments: Set = None,
    skip_bad: SkipBad = False,
) -> None:
    """Show what training would choose, why, and what it costs.

    Some training steps are made on noise to measure what this device can do.

    Example: segue plan msd/hippocampus --minutes 60
    """
    from segue.workflow.estimating import describe_cost, describe_plan
    from segue.workflow.experiment import budget_options, load_experiment
    from segue.workflow.planning import brought, make_plan, sound_split

    options: dict[str, Any] = {"data": str(data), "device": device, "skip_bad": skip_bad}
    options.update(budget_options(minutes, hours, epochs, steps))
    if memory is not None:
        options["memory"] = memory
    experiment = load_experiment(dataset, options, assignments or [])
    planned = make_plan(experiment, brought(experiment))
    result(describe_plan(planned.plan))
    result()
    result(describe_cost(planned, sound_split(planned, experiment.fold), experiment))


@app.command()
def prepare(
    dataset: Dataset,
    data: Data = Path("data"),
    assignments: Set = None,
    skip_bad: SkipBad = False,
    workers: Workers = None,
    cluster: Cluster = None,
    shard: Shard = None,
    memory: Memory = None,
    cache: Cache = None,
) -> None:
    """Bring every case into the network's form.

    train does this by itself; prepare does it beforehand.

    Example: segue prepare msd/hippocampus
    """
    from segue.prepare import unpacked_once
    from segue.workflow.experiment import load_experiment
    from segue.workflow.look import prepare_all
    from segue.workflow.planning import brought, make_plan

    options: dict[str, Any] = {
        "data": str(data),
        "skip_bad": skip_bad,
        **({"workers": workers} if workers else {}),
        **({"cache": str(cache)} if cache else {}),
    }
    experiment = load_experiment(dataset, options, assignments or [])
    begin_work(cluster, shard, memory)
    found = brought(experiment)
    with unpacked_once(experiment.cache_folder):
        planned = make_plan(experiment, found, fit=False)
        ready = prepare_all(planned.dataset, planned.sound, planned.plan, experiment.cache_folder, workers)
    result(f"{len(ready)} cases prepared in {experiment.cache_folder}")


@app.command()
def train(
    dataset: Dataset,
    data: Annotated[Path | None, typer.Option("--data", help="Where datasets lie (default: data).")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The run folder (default: runs/NAME).")] = None,
    minutes: Minutes = None,
    hours: Hours = None,
    epochs: Epochs = None,
    steps: Steps = None,
    fold: Annotated[
        str | None, typer.Option(help="The fold that validates (default: 0), cv for all of them, none for no fold.")
    ] = None,
    splits: Annotated[Path | None, typer.Option(help="Folds of your own: nnU-Net's splits_final.json.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another training (default: 0).")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    assignments: Set = None,
    skip_bad: SkipBad = False,
    workers: Workers = None,
    cache: Cache = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and stop.")] = False,
) -> None:
    """Train a model, measure it and write its report.

    Checks, plans, prepares, trains, predicts, evaluates and reports.

    Stopped by Ctrl-C or by a power cut, the same command goes on where it was.

    Example: segue train msd/hippocampus --minutes 20 -o runs/hippo
    """
    from segue.workflow.experiment import budget_options, load_experiment
    from segue.workflow.training import dry_run
    from segue.workflow.training import train as run_train

    given = {
        "data": data,
        "output": output,
        "fold": fold,
        "splits": splits,
        "seed": seed,
        "device": device,
        "workers": workers,
        "cache": cache,
    }
    options: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items() if value is not None
    }
    if skip_bad:
        options["skip_bad"] = True
    options.update(budget_options(minutes, hours, epochs, steps))
    experiment = load_experiment(dataset, options, assignments or [])
    if dry:
        dry_run(experiment)
    else:
        _summarise(*run_train(experiment))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="The run folder of a training, or an exported model (.onnx).")],
    inputs: Annotated[
        list[str], typer.Argument(help="Images, folders of images or of DICOM, addresses, or a dataset's name.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the masks, or the table of classes, go.")],
    others: Annotated[list[Path] | None, typer.Option("--with", help="Another run, averaged with the first.")] = None,
    to: Annotated[str | None, typer.Option(help="dicom-seg: a DICOM segmentation of each input series.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also the probability of each label.")] = False,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="Also how sure the answer is.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Also a picture of each case.")] = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="Average over mirror images: slower.")] = False,
    data: Data = Path("data"),
    device: Device = "auto",
    cluster: Cluster = None,
    shard: Shard = None,
    memory: Memory = None,
) -> None:
    """Apply a trained model to new images.

    Each mask has its image's own geometry and format; a DICOM folder, also a PET/CT study, is converted first. A model
    of classes writes a table of probabilities, OUT/predictions.csv. Exit code 3 if a case failed.

    Example: segue predict runs/hippo data/msd/hippocampus/imagesTs -o out
    """
    from segue.core.errors import UsageError
    from segue.workflow.applying import apply_exported, is_exported

    begin_work(cluster, shard, memory)
    inputs = [str(at_hand(each, data)) for each in inputs]
    if is_exported(run):
        wished = {
            "--with": others,
            "--to": to,
            "--probabilities": probabilities,
            "--uncertainty": uncertainty,
            "--preview": preview,
            "--mirror": mirror,
            "--cluster": cluster,
            "--memory": memory,
        }
        if given := [name for name, value in wished.items() if value]:
            raise UsageError(
                "an exported model writes masks alone", value=", ".join(given), remedy="give the run folder instead"
            )
        done: Any = apply_exported(run, inputs, output, device, data)
    else:
        from segue.workflow.measuring import predict as run_predict
        from segue.workflow.predicting import PredictOptions, mask_form

        options = PredictOptions(tuple(others or ()), mask_form(to), probabilities, uncertainty, preview, mirror)
        done = run_predict(run, inputs, output, device, data, options)
    result(f"{done.made} {done.what} in {done.where}")
    if done.errors:
        result(f"{len(done.errors)} failed: {', '.join(name for name, _ in done.errors)}")
        raise typer.Exit(3)


@app.command()
def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="A run: measures it again and renews its report. Several: compares."),
    ] = None,
    pred: Annotated[Path | None, typer.Option(help="A folder of predicted masks, segue's or nnU-Net's.")] = None,
    truth: Annotated[str | None, typer.Option(help="A folder of true masks, or a dataset.")] = None,
    labels: Annotated[str | None, typer.Option(help="Names of labels: 1=liver,2=tumour")] = None,
    regions: Annotated[str | None, typer.Option(help="Unions of labels (default: the card's): WT=1+2+3,TC=1+3")] = None,
    tolerance: Annotated[float | None, typer.Option(help="Of NSD, in mm (default: 1).")] = None,
    preset: Annotated[str | None, typer.Option(help="Lesion-wise figures too: brats, brats-men or brats-met.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Of masks: metrics.json (default: beside them). "
            "Of a comparison: the folder for comparison.json and .csv.",
        ),
    ] = None,
    data: Data = Path("data"),
    device: Device = "auto",
    workers: Workers = None,
    cluster: Cluster = None,
    shard: Shard = None,
    memory: Memory = None,
) -> None:
    """Measure a run, or masks against the truth; or compare runs.

    Dice, surface distances, lesions, volumes, with intervals over patients. A folder of masks that was measured is
    compared like a run. Exit code 3 if a case failed.

    Example: segue evaluate --pred out --truth labelsTs
    """
    from segue.cli.labelling import label_names, region_members
    from segue.core.errors import UsageError
    from segue.evaluate import Wanted, comparison_table, metrics_table, write_comparison
    from segue.train import Run
    from segue.workflow.comparing import compare_runs
    from segue.workflow.scoring import evaluate_folders

    begin_work(cluster, shard, memory)
    pred, truth = pred and at_hand(pred, data), truth and str(at_hand(truth, data))
    rules = {"--labels": labels, "--regions": regions, "--tolerance": tolerance, "--preset": preset}
    if runs and len(runs) > 1 and pred is None and truth is None:
        given = [name for name, value in rules.items() if value is not None]
        if given:
            raise UsageError(
                "a comparison takes the figures as they were measured",
                where=", ".join(given),
                remedy="measure each of them with these options first, then compare",
            )
        comparison = compare_runs(runs, device, workers)
        result(comparison_table(comparison))
        if output is not None:
            from segue.workflow.reporting import write_compared

            write_comparison(output, comparison)
            page = output.with_suffix(".html") if output.suffix == ".json" else output / "comparison.html"
            result(f"page: {write_compared(page, comparison)}")
        return
    wanted = Wanted(label_names(labels), region_members(regions), 1.0 if tolerance is None else tolerance, preset)
    if runs and len(runs) == 1 and pred is None and truth is None:
        if labels is not None:
            raise UsageError("a run has the labels that it was trained on", where=f"--labels {labels}")
        from segue.workflow.folds import evaluate_again  # brings torch, which measuring masks does without

        evaluations = evaluate_again(Run(runs[0]), device, workers, wanted)
    elif not runs and pred is not None and truth is not None:
        evaluations = [evaluate_folders(pred, truth, wanted, data, output, workers)]
    else:
        raise UsageError("give a run folder, or both --pred and --truth", remedy="see segue evaluate --help")
    for evaluation in evaluations:
        if shard is not None:
            continue
        if len(evaluations) > 1:
            result("validation cases" if evaluation.part == "val" else "test cases")
        result(metrics_table(evaluation))
    if shard is not None:
        scored = sum(len(evaluation.cases) for evaluation in evaluations)
        result(f"shard {shard}: {scored} cases measured; the same command without --shard gathers the figures")
    errors = [error for evaluation in evaluations for error in evaluation.errors]
    for error in errors:
        say(f"error: {error}")
    if errors:
        result(f"{len(errors)} failed: {', '.join(sorted({str(error.where).split(':')[0] for error in errors}))}")
        raise typer.Exit(3)


app.command()(view)
app.command()(doctor)


def _summarise(run: Any, evaluations: list[Any]) -> None:
    from segue.evaluate import metrics_table

    for evaluation in evaluations:
        result(f"{'validation' if evaluation.part == 'val' else 'test'} cases")
        result(metrics_table(evaluation))
    result(f"report: {run.report}")
    failed = [error for evaluation in evaluations for error in evaluation.errors]
    if failed:
        for error in failed:
            say(f"error: {error}")
        raise typer.Exit(3)
