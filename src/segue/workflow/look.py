"""The steps that check, plan, prepare and train share: look at every case, prepare it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segue.catalogue import Card, Case, Dataset, Target
from segue.core.console import stage
from segue.core.errors import DataError
from segue.core.executor import cpu_count, map_cases
from segue.core.work import mine
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
    sample_share,
    sized_case,
    stack_file,
    unread,
    write_stack,
)
from segue.workflow.leaks import twins_in_arrays, twins_in_files

# Starting processes costs seconds (each imports numpy and scipy); small datasets are done before that.
_PARALLEL_FROM_BYTES = 100_000_000


def findings_of_verdicts(dataset: Dataset) -> list[Finding]:
    """Per case that a verdict leaves out, who says so and why."""
    return [
        Finding(
            case=case.id,
            severity="note",
            what=f"left out: {(verdict := dataset.verdicts[case.id])}",
            value=", ".join(part for part in (verdict.by, verdict.when) if part) or None,
            remedy="nothing: a person decided so; take its row out of verdicts.csv to bring the case back",
            kind="left out by verdicts.csv",
        )
        for case in dataset.set_aside
    ]


def examine_all(
    dataset: Dataset, cases: Sequence[Case], cache: Path | None, workers: int | None = None
) -> list[Examination]:
    """Every case looked at once, in the order of ``cases``."""
    # Where some images are annotated, one without its mask is a mistake; a folder of images alone is not.
    annotated = bool(dataset.labelled)
    share = sample_share(len(cases))
    tasks = [ExamineTask(case, dataset.card, cache, annotated and case.split == "train", share) for case in cases]
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
    return workers_for_files((path for case in cases for path in case.image_files), workers)


def workers_for_files(paths: Iterable[Path], workers: int | None) -> int:
    """How many processes work on these files: one for little, else one per core."""
    if workers is not None:
        return workers
    size = 0
    for path in paths:
        size += path.stat().st_size if path.exists() else 0
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
