"""``check``: quality control of a dataset, a folder of images, or one file."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segue.catalogue import Dataset, is_known, open_dataset
from segue.catalogue.recognise import MixedLabelsError
from segue.core.console import say, stage
from segue.core.errors import DataError, UsageError
from segue.core.executor import map_cases
from segue.core.work import current_work, mine
from segue.dicom import Series, looks_like_dicom, modality_of, read_series, scan
from segue.images import image_stem, is_image, read, read_forms
from segue.prepare import Examination, Finding, dataset_findings
from segue.prepare.quality.geometry import look_at_axes, look_at_header
from segue.prepare.quality.reporting import Found
from segue.workflow.look import findings_of_verdicts, look_at, workers_for_files


@dataclass(frozen=True)
class CheckResult:
    """What a check found: how many cases (images, series) were looked at, and every finding.

    Attributes:
        name: of the dataset or the folder, for people and for file names.
        dataset: None where images were looked at each by itself.
    """

    looked_at: int
    findings: list[Finding]
    name: str = ""
    dataset: Dataset | None = None
    examinations: list[Examination] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]


def check(
    reference: str, data: Path = Path("data"), workers: int | None = None, cache: Path | None = None
) -> CheckResult:
    """Quality control of a dataset, of a folder of images without a card, or of one file.

    Args:
        cache: where what was measured is kept (see :func:`check_dataset`).

    Raises:
        UsageError: nothing of this name. DataError: the dataset is not there or has no cases.
    """
    path = Path(reference)
    name = path.resolve().name
    if path.is_file() and not reference.endswith((".yaml", ".yml")):
        return CheckResult(1, [], name) if holds_masks_or_arrays(path) else check_images([path], path, workers)
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
                return check_series(series, name)
            say(f"{reference}: not a dataset with a card; looking at each of its {len(images)} images by itself")
            return check_images(images, path, workers)
    else:
        dataset = open_dataset(reference, data)
    return check_dataset(dataset, data, workers, cache)


def check_dataset(
    dataset: Dataset, data: Path = Path("data"), workers: int | None = None, cache: Path | None = None
) -> CheckResult:
    """Every case by itself, then all together, and what the card and a person say of them.

    Args:
        data: what was measured is kept in its folder ``prepared`` for the training, where there is such a folder; what
            a shard measured always, since the run that gathers finds it there.
        cache: where it is kept instead.
    """
    for line in dataset.told_left_out:
        say(line)
    # A check alone does not begin a data folder.
    cache = cache or (data / "prepared" if data.is_dir() or current_work().shard else None)
    cases = mine(dataset.cases)
    with tempfile.TemporaryDirectory() as nowhere:
        arrays = (cache or Path(nowhere)) / "arrays"
        looked = look_at(dataset, cases, cache, arrays, workers, thorough=True)
    findings = known_findings(dataset) + looked.findings
    findings += dataset_findings(dataset.card, cases, looked.examinations)
    return CheckResult(looked.count, findings, dataset.card.name, dataset, looked.examinations)


def holds_masks_or_arrays(path: Path) -> bool:
    """Whether a file is no image by itself: structures, segments, an ``.npz``."""
    return path.suffix == ".npz" or (looks_like_dicom(path) and modality_of(path) in ("SEG", "RTSTRUCT"))


def known_findings(dataset: Dataset) -> list[Finding]:
    """What the card knows to be wrong with cases that are here: left out, repaired, or to be looked at."""
    ids = {case.id for case in dataset.cases}
    aside = {case.id for case in dataset.set_aside}
    findings = findings_of_verdicts(dataset) + [
        Finding(case=name, severity="note", what=f"left out: {reason}")
        for name, reason in dataset.left_out.items()
        if name not in aside
    ]
    for defect in dataset.card.defects:
        for name in ids.intersection(defect.cases):
            if defect.action == "warn":
                findings.append(Finding(case=name, severity="warning", what=defect.what, value=defect.source))
            elif defect.action == "repair":
                findings.append(Finding(case=name, severity="note", what=f"repaired: {defect.what}"))
    return findings


def check_series(found: Sequence[Series], folder: str) -> CheckResult:
    """Can each DICOM series be read as one volume or several, and if not, why?"""
    findings = []
    for series in found:
        name = f"{series.called} ({series.frames} images)"
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
    return CheckResult(len(found), findings, folder)


def check_images(paths: Sequence[Path], folder: Path, workers: int | None = None) -> CheckResult:
    """Is each image readable, finite and not constant, and does its header say where it lies?"""
    findings: list[Finding] = []
    tasks = [(path, image_stem(path) if path == folder else path.relative_to(folder).as_posix()) for path in paths]
    with stage("check", len(tasks)) as shown:
        for _, result in map_cases(_check_image, tasks, workers=workers_for_files(paths, workers)):
            if isinstance(result, DataError):
                raise result
            findings += result
            shown.advance()
        shown.note(f"{len(paths)} images")
    return CheckResult(len(paths), findings, folder.resolve().name)


def _check_image(task: tuple[Path, str]) -> list[Finding]:
    path, name = task
    found = Found(name)
    try:
        volume = read(path)
        forms = read_forms(path)
    except DataError as error:
        found("error", error.what, error.value, error.remedy)
        return found.findings
    wrong = int(volume.array.size - np.isfinite(volume.array).sum()) if volume.array.dtype.kind == "f" else 0
    if wrong:
        found(
            "error",
            "the image holds NaN or infinite values",
            f"{wrong} of {volume.array.size} voxels",
            "mend or mask these voxels",
            size=wrong / volume.array.size,
        )
    elif volume.array.min() == volume.array.max():
        found("warning", "the image is constant", f"{volume.array.flat[0]}", "look at it, or leave it out")
    look_at_axes(volume.geometry, found)
    look_at_header(path, forms, volume.geometry, found)
    return found.findings


def write_check(checked: CheckResult, output: Path | None) -> list[Path]:
    """``check.html``, ``check.csv`` and ``check.json``; in ``checks/NAME`` where no folder is given.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    from segue.view.check_page import CheckFacts, write_check_page
    from segue.workflow.check_tables import write_tables

    folder = output or Path("checks") / (re.sub(r"[^\w.-]+", "_", checked.name).strip("._") or "check")
    facts = CheckFacts(checked.name, checked.looked_at, checked.findings, checked.dataset, checked.examinations)
    return [write_check_page(folder / "check.html", facts), *write_tables(checked, folder)]


def fixed(checked: CheckResult, output: Path) -> list[str]:
    """Make a new dataset with the safe repairs (see :mod:`segue.workflow.repairing`), and say what was done.

    Raises:
        UsageError: images without a card, or a folder that cannot be the new one.
    """
    from segue.workflow.repairing import REPAIRS, repair

    if checked.dataset is None:
        raise UsageError(
            "--fix makes a new dataset: images by themselves are none",
            where=checked.name,
            remedy="give a dataset's name, its folder or its card",
        )
    done = repair(checked.dataset, output)
    counts = Counter(one.what for one in done)
    told = ", ".join(f"{what} ({count})" for what, count in counts.most_common()) or "nothing could be"
    return [f"repaired in {output}: {told}; {output / REPAIRS} lists it, segue check {output} looks again"]
