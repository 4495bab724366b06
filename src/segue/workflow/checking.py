"""``check``: quality control of a dataset, a folder of images, or one file."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from segue.catalogue import Dataset, is_known, open_dataset
from segue.catalogue.recognise import MixedLabelsError
from segue.core.console import say
from segue.core.errors import DataError, UsageError
from segue.core.work import current_work, mine
from segue.dicom import looks_like_dicom, modality_of, scan
from segue.images import is_image
from segue.prepare import Finding, dataset_findings
from segue.workflow.checking_images import Compared, look_at_images, look_at_series
from segue.workflow.look import findings_of_verdicts, look_at


@dataclass(frozen=True)
class CheckResult:
    """What a check found: how many cases (images, series) were looked at, and every finding.

    Attributes:
        name: of the dataset or the folder, for people and for file names.
        dataset: None where images were looked at each by itself.
        compared: datasets whose cases were compared with each other: this one, or one of each kind of images.
    """

    looked_at: int
    findings: list[Finding]
    name: str = ""
    dataset: Dataset | None = None
    compared: list[Compared] = field(default_factory=list)

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
        if holds_masks_or_arrays(path):
            return CheckResult(1, [], name)
        return _checked(1, look_at_images([path], path, workers), name)
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
                return _checked(len(series), look_at_series(series, path), name)
            say(f"{reference}: not a dataset with a card; looking at each of its {len(images)} images")
            return _checked(len(images), look_at_images(images, path, workers), name)
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
    return CheckResult(looked.count, findings, dataset.card.name, dataset, [(dataset, looked.examinations)])


def _checked(count: int, looked: tuple[list[Finding], list[Compared]], name: str) -> CheckResult:
    findings, compared = looked
    return CheckResult(count, findings, name, compared=compared)


def holds_masks_or_arrays(path: Path) -> bool:
    """Whether a file is no image by itself: structures, segments, an ``.npz``."""
    return path.suffix == ".npz" or (looks_like_dicom(path) and modality_of(path) in ("SEG", "RTSTRUCT"))


def known_findings(dataset: Dataset) -> list[Finding]:
    """What the card knows to be wrong with cases that are here: left out, repaired, or to be looked at."""
    ids = {case.id for case in dataset.cases}
    aside = {case.id for case in dataset.set_aside}
    findings = findings_of_verdicts(dataset) + [
        Finding(
            case=name,
            severity="note",
            what=f"left out: {reason}",
            value="a known defect of this dataset",
            remedy="nothing: it is used by no command",
            kind="left out for a known defect",
        )
        for name, reason in dataset.left_out.items()
        if name not in aside
    ]
    for defect in dataset.card.defects:
        told = defect.source or "a known defect of this dataset"
        if not defect.cases and defect.action == "warn":
            findings.append(
                Finding(
                    case="",
                    severity="note",
                    what=defect.what,
                    value=told,
                    remedy="nothing can be done about it here: know it when you read figures",
                )
            )
        for name in sorted(ids.intersection(defect.cases)):
            if defect.action == "warn":
                findings.append(
                    Finding(
                        case=name,
                        severity="warning",
                        what=defect.what,
                        value=told,
                        remedy="look at it; verdicts.csv leaves a case out",
                    )
                )
            elif defect.action == "repair":
                findings.append(
                    Finding(
                        case=name,
                        severity="note",
                        what=f"repaired: {defect.what}",
                        value=told,
                        remedy="nothing: the right name is used",
                    )
                )
    return findings


def write_check(checked: CheckResult, output: Path | None) -> list[Path]:
    """``check.html``, ``check.csv`` and ``check.json``; in ``checks/NAME`` where no folder is given.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    from segue.view.check_page import CheckFacts, write_check_page
    from segue.workflow.check_tables import write_tables

    folder = output or Path("checks") / (re.sub(r"[^\w.-]+", "_", checked.name).strip("._") or "check")
    facts = CheckFacts(checked.name, checked.looked_at, checked.findings, checked.dataset, checked.compared)
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
