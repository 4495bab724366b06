"""Collections of DICOM series: what belongs to them, and all of it to this disk, several series at a time.

The Cancer Imaging Archive says what belongs to a collection. The bytes come from the Imaging Data Commons where it has
the same series (faster, and single files resume), else from the archive's own interface.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

from segue.acquire.convert import ConvertOptions, convert, require_converted
from segue.acquire.idc import Located, Mirror
from segue.acquire.receipt import Origin, Source, read_receipt, write_receipt
from segue.acquire.series import (
    FOLDER,
    Came,
    Series,
    clear_leftovers,
    in_order,
    of_patients,
    read_record,
    read_table,
    write_table,
)
from segue.acquire.tcia import ATTEMPTS, Archive
from segue.acquire.threads import ended, spawned
from segue.acquire.transport import Transport
from segue.catalogue import Card
from segue.core.console import Stage, byte_count, say, stage
from segue.core.errors import DataError

AT_A_TIME = 6
CLINICAL = "clinical"
_ATTEMPTS_BESIDE_A_MIRROR = 2
_TIDY_UP_S = 3.0


def fetch(card: Card, root: Path, patients: int | None = None) -> Origin:
    """Download the collection's series to ``root/dicom/PATIENT/STUDY/SERIES``; those that are there are kept.

    ``series.csv`` beside them lists all series of the collection with their licences. When everything that is asked
    for is there, nothing is asked of the network. Then every study becomes volumes in ``root/PATIENT/STUDY``; those
    that cannot be converted are told and listed in ``convert.csv``.

    Raises:
        DataError: series that did not come (the others are there), or no study could be converted.
        MachineError: the disk is full or may not be written.
    """
    listed = read_table(root)
    wanted = of_patients(listed, patients)
    failed: list[DataError] = []
    there = _there(root, listed)
    if not wanted or any(series.uid not in there for series in wanted):
        with Transport() as transport:
            listed, located = _listing(card, transport)
            wanted = of_patients(listed, patients)
            _begin(card, root, listed)
            try:
                failed = _bring(transport, root, wanted, located)
                _bring_clinical(card, transport, root)
            finally:
                _finish(card, root, listed)
    elif read_receipt(root).get("how") != _how(len(there), len(listed)):
        _finish(card, root, listed)  # the last process was killed after the last series and before this
    if failed:
        raise DataError(
            f"{len(failed)} of {len(wanted)} series did not come; the others are there",
            where=root / FOLDER,
            value=str(failed[0]).replace("\n", " "),
            remedy="run the same command again: it brings only what is missing",
        )
    try:
        # The collection is public: its patients have the names that its makers gave them.
        require_converted(convert(root / FOLDER, root, ConvertOptions(keep_ids=True)), root)
    except DataError as error:
        what = f"all {len(wanted)} DICOM series are there, but no study could be converted"
        remedy = f"or take a copy that is NIfTI: --release {card.copies[0].release}" if card.copies else error.remedy
        raise DataError(what, where=error.where, value=error.value or error.what, remedy=remedy) from error
    return replace(_origin(root, listed), unconverted=False)


def _listing(card: Card, transport: Transport) -> tuple[list[Series], dict[str, Located]]:
    """The collection's series, and where the Imaging Data Commons has them.

    TCIA says what belongs to the collection; where it does not answer, the other one's list takes its place, without
    what others have derived from the collection.
    """
    assert card.collection is not None, "asked for by cards with a collection"
    located: dict[str, Located] = {}
    if card.collection.idc is not None:
        try:
            located = Mirror(transport).series(card.collection.idc)
        except DataError as error:
            if card.collection.tcia is None:
                raise
            say(f"{error}; the series come from TCIA itself, which is slower")
    if card.collection.tcia is not None:
        try:
            attempts = _ATTEMPTS_BESIDE_A_MIRROR if located else ATTEMPTS
            return Archive(transport, attempts).series(card.collection.tcia), located
        except DataError as error:
            if not located:
                raise
            say(f"{error}; the list of the Imaging Data Commons takes its place")
    own = in_order(each.series for each in located.values() if not each.derived)
    if not own:
        raise DataError("the archive knows no series of this collection", where=card.collection.idc or card.name)
    return own, located


def _bring(transport: Transport, root: Path, wanted: Sequence[Series], located: dict[str, Located]) -> list[DataError]:
    """Bring what is missing, several series at a time. Returns: why some did not come."""
    there = _there(root, wanted)
    missing = [series for series in wanted if series.uid not in there]
    sizes = [series.bytes for series in missing]
    failed: list[DataError] = []
    stopped = threading.Event()
    archive, mirror = Archive(transport), Mirror(transport)

    def one(series: Series) -> Came:
        if not series.sound:
            raise DataError(
                "the archive lists a series with names that DICOM does not allow; it is left out",
                where=repr(series.uid[:80]),
                value=f"patient {series.patient[:40]!r}",
            )
        folder, place = root / series.folder, located.get(series.uid)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if place is not None and place.series.files in (None, series.files or place.series.files):
            try:
                with shown.of(series) as on_bytes:
                    came = mirror.download(place, folder, on_bytes, stopped)
                clear_leftovers(folder)
                return came
            except DataError as error:
                shown.fell_back(error)
        with shown.of(series) as on_bytes:
            return archive.download(series, folder, on_bytes, stopped)

    with stage("download", sum(size or 0 for size in sizes) if all(sizes) else None) as bar:
        shown = _Shown(bar, len(missing))
        todo = deque(missing)

        def some() -> None:
            while not stopped.is_set():
                try:
                    series = todo.popleft()
                except IndexError:
                    return
                try:
                    one(series)
                except DataError as error:
                    failed.append(error)
                shown.one_more()

        jobs = [spawned(some) for _ in range(min(AT_A_TIME, len(missing)))]
        try:
            errors = ended(jobs)
        finally:
            stopped.set()
            wait(jobs, _TIDY_UP_S)  # a silent server holds nobody longer
        if errors:
            raise errors[0]
        bar.note(f"{len(missing) - len(failed)} of {len(missing)} series, {byte_count(shown.came)}")
    return failed


class _Shown:
    """The progress of several series at once, in bytes of the series, with the rate."""

    def __init__(self, bar: Stage, series: int) -> None:
        self._bar, self._series = bar, series
        self._done = self._fallen = 0
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self.came = 0

    def of(self, series: Series) -> _SeriesShown:
        return _SeriesShown(self, series.bytes)

    def advance(self, shown: int, came: int) -> None:
        with self._lock:
            self.came += came
            rate = byte_count(round(self.came / max(0.001, time.monotonic() - self._began)))
            self._bar.advance(shown, f"{self._done} of {self._series} series, {rate}/s")

    def one_more(self) -> None:
        with self._lock:
            self._done += 1

    def fell_back(self, error: DataError) -> None:
        with self._lock:
            self._fallen += 1
            first = self._fallen == 1
        if first:
            say(f"{error.where}: {error.what} ({error.value}); it comes from TCIA itself, and so do others like it")


class _SeriesShown:
    """The bytes of one series; when it has come it counts as what its archive says, when not as nothing."""

    def __init__(self, shown: _Shown, size: int | None) -> None:
        self._shown, self._size, self._came = shown, size, 0

    def __enter__(self) -> Callable[[int], None]:
        return self._advance

    def _advance(self, size: int) -> None:
        self._came += size
        self._shown.advance(size, size)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self._shown.advance(-self._came, -self._came)
        elif self._size is not None:
            self._shown.advance(self._size - self._came, 0)


def _bring_clinical(card: Card, transport: Transport, root: Path) -> None:
    """The collection's clinical tables, where the Imaging Data Commons has some; their lack stops nothing."""
    assert card.collection is not None, "asked for by cards with a collection"
    if card.collection.idc is None or (root / CLINICAL).is_dir():
        return
    try:
        names = Mirror(transport).clinical(card.collection.idc, root / CLINICAL)
    except DataError as error:
        shutil.rmtree(root / CLINICAL, ignore_errors=True)
        say(f"{error}; the clinical tables are not there".replace("\n", " "))
        return
    if names:
        say(f"clinical tables: {', '.join(names)} in {root / CLINICAL}")


def _begin(card: Card, root: Path, listed: Sequence[Series]) -> None:
    """A process that is killed leaves a folder that says what it is."""
    write_table(root, listed, {})
    if not read_receipt(root):
        write_receipt(card, root, Origin(_how(0, len(listed)), partial=True, unconverted=True))


def _there(root: Path, listed: Sequence[Series]) -> set[str]:
    """The UIDs of the series that have come. Their folders are there whole or not at all."""
    return {series.uid for series in listed if (root / series.folder).is_dir()}


def _how(came: int, listed: int) -> str:
    return f"{came} of {listed} DICOM series downloaded"


def _finish(card: Card, root: Path, listed: Sequence[Series]) -> None:
    """``series.csv`` and the receipt of series that wait for their conversion."""
    write_table(root, listed, _records(root, listed))
    write_receipt(card, root, _origin(root, listed))


def _records(root: Path, listed: Sequence[Series]) -> dict[str, Came]:
    return {each.uid: came for each in listed if (came := read_record(root / each.folder)) is not None}


def _origin(root: Path, listed: Sequence[Series]) -> Origin:
    """Where the series came from, with the hash of every file that came."""
    records = _records(root, listed)
    hashes = {
        (each.folder / name).as_posix(): sha256
        for each in listed
        if each.uid in records
        for name, (_, sha256) in records[each.uid].files.items()
    }
    here = [each for each in listed if each.uid in records]
    brought: Counter[str] = Counter()
    for came in records.values():
        brought[came.source] += sum(size for size, _ in came.files.values())
    return Origin(
        _how(len(here), len(listed)),
        [Source(name, size) for name, size in sorted(brought.items())],
        hashes,
        partial=len(here) < len(listed),
        unconverted=True,
        licences=sorted({each.licence for each in here if each.licence}),
    )
