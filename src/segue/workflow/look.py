"""``check`` and the steps that plan, prepare and train share: look at every case, plan, prepare."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segue.catalogue import Card, Case, Dataset, Target, is_known, open_dataset
from segue.catalogue.recognise import MixedLabelsError
from segue.core.console import say, stage
from segue.core.errors import DataError
from segue.core.executor import cpu_count, map_cases
from segue.core.work import current_work, mine
from segue.dicom import Series, looks_like_dicom, modality_of, read_series, scan
from segue.images import image_stem, is_image, read
from segue.prepare import (
    Examination,
    ExamineTask,
    Finding,
    Fingerprint,
    Plan,
    PreparedCase,
    PrepareTask,
    Stack,
    StackTask,
    array_digests,
    examine,
    fingerprint,
    map_stack,
    measure_arrays,
    open_stack,
    prepare_case,
    sized_case,
    stack_file,
    unread,
    write_stack,
)
from segue.workflow.leaks import twins_in_arrays, twins_in_files

# Starting processes costs seconds (each imports numpy and scipy); small datasets are done before that.
_PARALLEL_FROM_BYTES = 100_000_000


@dataclass(frozen=True)
class CheckResult:
    """What a check found: how many cases were looked at, and every finding."""

    looked_at: int
    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]


def check(
    reference: str, data: Path = Path("data"), workers: int | None = None, cache: Path | None = None
) -> CheckResult:
    """Quality control of a dataset, of a folder of images without a card, or of one file.

    Args:
        cache: where what was measured is kept (``DATA/prepared`` where there is a data folder, if not given).

    Raises:
        UsageError: nothing of this name. DataError: the dataset is not there or has no cases.
    """
    path = Path(reference)
    if path.is_file() and not reference.endswith((".yaml", ".yml")):
        return CheckResult(1, []) if holds_masks_or_arrays(path) else check_images([path])
    if not is_known(reference) and path.is_dir():
        try:
            dataset = open_dataset(reference, data)
        except MixedLabelsError:
            raise
        except DataError as error:
            images = sorted(image for image in path.rglob("*") if image.is_file() and is_image(image))
            if not images:
                series = scan(path)
                if not series:
                    raise error
                say(f"{reference}: {len(series)} DICOM series; looking at each of them")
                return check_series(series)
            say(f"{reference}: not a dataset with a card; looking at each of its {len(images)} images by itself")
            return check_images(images)
    else:
        dataset = open_dataset(reference, data)
    # What was measured is kept for the training, but a check alone does not begin a data folder.
    # What a shard measured, the run that gathers finds there.
    cache = cache or (data / "prepared" if data.is_dir() or current_work().shard else None)
    with tempfile.TemporaryDirectory() as nowhere:
        arrays = (cache or Path(nowhere)) / "arrays"
        looked = look_at(dataset, mine(dataset.cases), cache, arrays, workers, thorough=True)
    return CheckResult(looked.count, known_findings(dataset) + looked.findings)


def holds_masks_or_arrays(path: Path) -> bool:
    """Whether a file is no image by itself: structures, segments, an ``.npz``."""
    return path.suffix == ".npz" or (looks_like_dicom(path) and modality_of(path) in ("SEG", "RTSTRUCT"))


def known_findings(dataset: Dataset) -> list[Finding]:
    """What the card knows to be wrong with cases that are here: left out, repaired, or to be looked at."""
    ids = {case.id for case in dataset.cases}
    findings = [
        Finding(case=name, severity="note", what=f"left out: {reason}") for name, reason in dataset.left_out.items()
    ]
    for defect in dataset.card.defects:
        for name in ids.intersection(defect.cases):
            if defect.action == "warn":
                findings.append(Finding(case=name, severity="warning", what=defect.what, value=defect.source))
            elif defect.action == "repair":
                findings.append(Finding(case=name, severity="note", what=f"repaired: {defect.what}"))
    return findings


def check_series(found: Sequence[Series]) -> CheckResult:
    """Can each DICOM series be read as one volume or several, and if not, why?"""
    findings = []
    for series in found:
        name = f"{series.modality} {series.description or series.uid} ({series.frames} images)"
        if series.frames == 0:
            findings.append(Finding(case=name, severity="note", what="no images: structures or a report"))
            continue
        try:
            found_in = read_series(series)
        except DataError as error:
            findings.append(
                Finding(case=name, severity="error", what=error.what, value=error.value, remedy=error.remedy)
            )
        else:
            text = "x".join(map(str, found_in.volume.geometry.shape))
            what = "readable as one volume"
            if found_in.differ_in:
                what = f"readable as {len(found_in.volume.array)} volumes that differ in {found_in.differ_in}"
            findings.append(Finding(case=name, severity="note", what=what, value=text))
    return CheckResult(len(found), findings)


def check_images(paths: Sequence[Path]) -> CheckResult:
    """Is each image readable, finite and not constant?"""
    findings = []
    for path in paths:
        name = image_stem(path) if len(paths) == 1 else str(path)
        try:
            volume = read(path)
        except DataError as error:
            findings.append(
                Finding(case=name, severity="error", what=error.what, value=error.value, remedy=error.remedy)
            )
            continue
        wrong = int(volume.array.size - np.isfinite(volume.array).sum()) if volume.array.dtype.kind == "f" else 0
        if wrong:
            findings.append(
                Finding(
                    case=name,
                    severity="error",
                    what="the image holds NaN or infinite values",
                    value=f"{wrong} of {volume.array.size} voxels",
                    remedy="mend or mask these voxels",
                )
            )
        elif volume.array.min() == volume.array.max():
            findings.append(
                Finding(
                    case=name,
                    severity="warning",
                    what="the image is constant",
                    value=f"{volume.array.flat[0]}",
                )
            )
        if volume.geometry.is_sheared:
            findings.append(
                Finding(
                    case=name,
                    severity="warning",
                    what="the voxel axes are not at right angles",
                    value=f"{volume.geometry.shear_degrees:.1f} degrees of shear",
                )
            )
    return CheckResult(len(paths), findings)


def examine_all(
    dataset: Dataset, cases: Sequence[Case], cache: Path | None, workers: int | None = None
) -> list[Examination]:
    """Every case looked at once, in the order of ``cases``."""
    # Where some images are annotated, one without its mask is a mistake; a folder of images alone is not.
    annotated = bool(dataset.labelled)
    tasks = [ExamineTask(case, dataset.card, cache, annotated and case.split == "train") for case in cases]
    with stage("check", len(tasks)) as shown:
        results = []
        for task, result in map_cases(examine, tasks, workers=workers_for(cases, workers)):
            # Its process died: that is wrong with this case, and the others are looked at.
            results.append(unread(task.case, result) if isinstance(result, DataError) else result)
            shown.advance(note=task.id)
        unsound = sum(not result.sound for result in results)
        shown.note(f"{len(results)} cases, {unsound} with errors")
    return results


def prepare_all(
    dataset: Dataset, cases: Sequence[Case], plan: Plan, cache: Path, workers: int | None = None
) -> dict[str, PreparedCase]:
    """Every case as the network will read it; those prepared before are only found.

    Of a shard, its part of them.

    Raises:
        DataError: cases that cannot be prepared; the others are, and are kept.
    """
    tasks = mine([PrepareTask(case, dataset.card, plan, cache) for case in cases])
    ready, failed = {}, []
    with stage("prepare", len(tasks)) as shown:
        for task, result in map_cases(prepare_case, tasks, workers=workers_for(cases, workers)):
            if isinstance(result, DataError):
                failed.append(result)
            else:
                ready[task.id] = result
            shown.advance(note=task.id)
        shown.note(f"{len(ready)} cases" + (f", {len(failed)} failed" if failed else ""))
    if len(failed) == 1:
        raise failed[0]
    if failed:
        listing = "\n".join(f"  {error}" for error in failed[:10])
        more = f"\n  and {len(failed) - 10} more" if len(failed) > 10 else ""
        raise DataError(f"{len(failed)} of {len(tasks)} cases cannot be prepared:\n{listing}{more}", where=cache)
    return ready


def workers_for(cases: Sequence[Case], workers: int | None) -> int:
    """How many processes work on these cases: one for little, else one per core."""
    if workers is not None:
        return workers
    size = 0
    for case in cases:
        size += sum(path.stat().st_size for path in case.image_files if path.exists())
        if size > _PARALLEL_FROM_BYTES:
            return cpu_count()
    return 1


@dataclass(frozen=True)
class Looked:
    """What a look at the cases found: per case a digest of its content, all findings, and what was measured."""

    count: int
    digests: dict[str, str]
    findings: list[Finding]
    examinations: list[Examination]
    measured: Fingerprint | None
    targets: dict[str, Target]
    validates: frozenset[str]

    def fingerprint(self, card: Card) -> Fingerprint:
        """Over the sound cases that train.

        Raises:
            DataError: there is none.
        """
        if self.measured is not None:
            return self.measured
        # What validates does not shape the plan, where the dataset's makers set it apart.
        train = [e for e in self.examinations if e.case not in self.validates]
        return fingerprint(card, train, self.targets)


def look_at(
    dataset: Dataset,
    cases: Sequence[Case],
    cache: Path | None,
    arrays: Path,
    workers: int | None = None,
    thorough: bool = False,
) -> Looked:
    """Every case looked at once: arrays of a classification array by array, everything else case by case.

    Args:
        cache: where what was measured is kept.
        arrays: where arrays of an ``.npz`` are unpacked.
        thorough: read large arrays through as well, to find images that stand in two parts.
    """
    card = dataset.card
    validates = frozenset(case.id for case in cases if case.split == "val")
    targets = {case.id: case.target for case in cases if case.target is not None}
    twins = twins_in_arrays(dataset, dataset.cases, arrays, thorough)
    measured = None
    if card.task == "classification":
        measured = measure_arrays(card, [case for case in cases if case.id not in validates], arrays)
    if measured is not None:
        return Looked(len(cases), array_digests(cases), twins or [], [], measured, targets, validates)
    examinations = examine_all(dataset, cases, cache, workers)
    findings = [finding for e in examinations for finding in e.findings]
    findings += twins_in_files(dataset, cases, examinations) if twins is None else twins
    digests = {e.case: e.digest for e in examinations}
    return Looked(len(cases), digests, findings, examinations, None, targets, validates)


def stack_all(card: Card, cases: Sequence[Case], plan: Plan, cache: Path, workers: int | None = None) -> Stack:
    """The images of a classification as one array.

    Raises:
        DataError: the first case that cannot be prepared. MachineError: the disk is full.
    """
    mapped = map_stack(cases, plan, cache / "arrays")
    if mapped is not None:
        return mapped
    path = stack_file(cases, plan, cache)
    if not path.exists():
        tasks = [StackTask(case, card, plan) for case in cases]
        with stage("prepare", len(tasks)) as shown:

            def images() -> Iterator[np.ndarray]:
                for task, result in map_cases(sized_case, tasks, workers=workers_for(cases, workers)):
                    if isinstance(result, DataError):
                        raise result
                    yield result
                    shown.advance(note=task.id)

            write_stack(path, len(tasks), images())
            shown.note(f"{len(tasks)} images of {' x '.join(map(str, plan.patch))}")
    return open_stack(path, cases, plan)


def require_sound(looked: Looked, skip_bad: bool, where: object) -> list[Finding]:
    """The errors of the cases that are left out; raises unless ``skip_bad``.

    Raises:
        DataError: with every bad case, what is wrong with it and the remedy.
    """
    errors = [finding for finding in looked.findings if finding.severity == "error"]
    if errors and not skip_bad:
        bad = len({finding.case for finding in errors})
        listing = "\n".join(f"  {finding}" for finding in errors[:10])
        more = f"\n  and {len(errors) - 10} more: segue check" if len(errors) > 10 else ""
        raise DataError(
            f"{bad} of {looked.count} cases cannot be used:\n{listing}{more}",
            where=where,
            remedy="mend them, or leave them out with --skip-bad",
        )
    return errors
