"""Which prediction belongs to which truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segue.catalogue import VERDICTS, Card, Case, Label, Row, card_above, is_known, load_card, open_dataset, some
from segue.core.console import say
from segue.core.errors import DataError, UsageError
from segue.core.files import parse_json
from segue.evaluate.measures import Measures, measures_for
from segue.evaluate.naming import (
    Names,
    distinct_regions,
    is_fold,
    names_beside,
    names_of_card,
    read_dataset_name,
    read_label_names,
    read_probability_channels,
    validation_folders,
)
from segue.images import image_stem, is_image
from segue.metrics import ComponentRule


@dataclass(frozen=True)
class SuvImage:
    """The file with the PET of a case in SUV, and which of its channels that is."""

    path: Path
    channel: int = 0


@dataclass(frozen=True)
class Probabilities:
    """The file with the probabilities of a predicted case, and which labels each of its channels is about."""

    path: Path
    channels: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Pair:
    """Prediction and truth of one case.

    ``labels`` are measured but for those ``unlabelled`` in this case; voxels of ``ignore_label`` do not count.
    ``rules`` are applied to the prediction before it is measured. With ``suv`` the measures of PET are taken too,
    with ``probabilities`` their calibration.
    """

    case: str
    patient: str
    prediction: Path
    truth: Label
    labels: dict[int, str]
    ignore_label: int | None = None
    unlabelled: tuple[int, ...] = ()
    rules: dict[int, ComponentRule] = field(default_factory=dict)
    measures: Measures = field(default_factory=Measures)
    suv: SuvImage | None = None
    probabilities: Probabilities | None = None

    @property
    def id(self) -> str:
        return self.case


@dataclass(frozen=True)
class Wanted:
    """What a person asked to be measured; None where the dataset decides.

    Attributes:
        labels: number and name of each label.
        regions: named unions of labels.
        preset: rules of a challenge (:data:`segue.evaluate.measures.PRESETS`).
    """

    labels: dict[int, str] | None = None
    regions: dict[str, tuple[int, ...]] | None = None
    tolerance_mm: float = 1.0
    preset: str | None = None

    def measures(self, card: Card | None, names: Names) -> Measures:
        """The rules for masks with these names of a dataset with this card.

        Raises:
            UsageError: no such preset, or a region by the name of a label that it is not.
        """
        labels = names.labels
        if self.regions is not None:
            self._require_regions_of(names)
        regions = distinct_regions(names.regions if self.regions is None else self.regions, labels)
        return measures_for(card, self.tolerance_mm, regions, self.preset)

    def _require_regions_of(self, names: Names) -> None:
        asked = self.regions or {}
        known = {*names.labels, *(number for members in names.regions.values() for number in members)}
        for name, members in asked.items():
            if name in (*names.labels.values(), "all"):
                raise UsageError(
                    "a region may not have the name of a label, nor be called 'all'",
                    where=f"--regions {name}",
                    remedy="give it a name of its own, for example --regions WT=1+2+3",
                )
            unknown = sorted(set(members) - known)
            if unknown:
                raise UsageError(
                    "a region unites labels that there are",
                    where=f"--regions {name}={'+'.join(map(str, members))}",
                    value=f"{unknown[0]}; there are {', '.join(f'{n} ({text})' for n, text in names.labels.items())}",
                )


def suv_of(case: Case, card: Card) -> SuvImage | None:
    """The PET of a case, by its card's first channel in SUV; None without one."""
    number = next((number for number, channel in enumerate(card.channels) if channel.unit == "SUV"), None)
    if number is None or number in case.absent:
        return None
    alone = len(case.images) > 1 or len(card.channels) == 1
    image = case.images[case.present(len(card.channels)).index(number) if alone else 0]
    return None if isinstance(image, Row) else SuvImage(image, 0 if alone else number)


def pair_folders(
    predictions: Path, truth: str, labels: dict[int, str] | None, data: Path, wanted: Wanted | None = None
) -> tuple[list[Pair], list[DataError], dict[int, str] | None]:
    """Match a folder of predictions with a folder of masks (by file name) or with a dataset (by case id).

    The predictions may be nnU-Net's: a folder that it predicted into, one ``fold_0/validation``, or the folder of a
    training with these folders of all folds in it. Masks that a fold of nnU-Net did not predict are no omission.

    Returns the pairs, an error per missing counterpart, and the label names if any source knows them.

    Raises:
        UsageError: one of the two is not there. DataError: no prediction found, or nothing matches.
    """
    wanted = wanted or Wanted(labels)
    found, expected = _predicted(predictions)
    folder = Path(truth)
    masks: dict[str, Label] = {}
    if folder.is_dir():
        masks = {image_stem(path): path for path in sorted(folder.iterdir()) if is_image(path)}
    cases: dict[str, Case] = {}
    aside: set[str] = set()
    if masks:
        card = card_above(folder)
    else:
        dataset = open_dataset(truth, data)
        card = dataset.card
        cases = {case.id: case for case in dataset.cases}
        aside = {case.id for case in dataset.set_aside}
        if told := sorted(aside & found.keys()):
            say(f"{len(told)} predictions are not measured: {some(told)} left out by {VERDICTS}")
        masks = {case.id: case.label for case in dataset.cases if case.label is not None}
    known = card or _card_of(predictions)
    names = _names(predictions, folder if not cases else None, wanted, known)
    measures = wanted.measures(known, names)
    channels = read_probability_channels(predictions)
    pairs = [
        Pair(
            name,
            cases[name].patient if name in cases else name,
            found[name],
            masks[name],
            names.labels,
            names.ignore_label,
            cases[name].unlabelled if name in cases else (),
            measures=measures,
            suv=suv_of(cases[name], card) if name in cases and card is not None else None,
            probabilities=_probabilities(predictions, name, channels),
        )
        for name in sorted(found.keys() & masks.keys())
    ]
    if not pairs:
        raise DataError(
            "no prediction has a truth of the same name",
            where=predictions,
            value=f"{next(iter(found))} ... against {next(iter(masks), 'nothing')} ...",
            remedy="give the folder of the masks of these very cases",
        )
    missing = [
        DataError("no truth for this prediction", where=name, remedy=f"add {name}.nii.gz to {truth}")
        for name in sorted(found.keys() - masks.keys() - aside)
    ]
    missing += [
        DataError("no prediction for this truth", where=name, remedy="predict this case too")
        for name in sorted((masks.keys() if expected is None else expected) - found.keys() - aside)
    ]
    return pairs, missing, names.labels or None


def _probabilities(folder: Path, case: str, channels: list[tuple[int, ...]] | None) -> Probabilities | None:
    path = folder / "probabilities" / f"{case}.nii.gz"
    return Probabilities(path, tuple(channels)) if channels and path.is_file() else None


def _predicted(folder: Path) -> tuple[dict[str, Path], set[str] | None]:
    """The predicted masks by case, and which cases are expected to have one; None: all that have a truth.

    Raises:
        UsageError: no such folder. DataError: no mask in it, or a case in two folds.
    """
    if not folder.is_dir():
        raise UsageError("no such folder", where=f"--pred {folder}", remedy="check the path")
    folds = validation_folders(folder) or ([folder] if is_fold(folder) else [])
    found: dict[str, Path] = {}
    expected: set[str] = set()
    for place in folds or [folder]:
        here = {image_stem(path): path for path in sorted(place.iterdir()) if is_image(path)}
        double = sorted(found.keys() & here.keys())
        if double:
            raise DataError(
                "this case is predicted in two folds: no figure over all of them could count it once",
                where=double[0],
                value=f"{found[double[0]].parent} and {place}",
                remedy="measure one of these folders",
            )
        found |= here
        expected |= here.keys() | _summarised(place)
    if not found:
        names = sorted(path.name for path in folder.iterdir())
        raise DataError(
            "no prediction (.nii.gz) found",
            where=folder,
            value=f"it holds {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "it is empty",
            remedy="run segue predict first",
        )
    return found, expected if folds else None


def _summarised(folder: Path) -> set[str]:
    """The cases in nnU-Net's ``summary.json``: those that the fold validated on."""
    try:
        entries = parse_json((folder / "summary.json").read_text(encoding="utf-8"))["metric_per_case"]
        return {image_stem(Path(str(entry["prediction_file"]))) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _names(predictions: Path, truth: Path | None, wanted: Wanted, card: Card | None) -> Names:
    """The names that the first of these sources knows: the person, segue's receipt, nnU-Net's listing beside the
    predictions, the dataset's card, the listing beside the truth. The person and the receipt say nothing of regions:
    these, and the ignore label, are then those of the other sources."""
    place = next(iter(validation_folders(predictions)), predictions)
    told = [
        names_beside(place),
        names_of_card(card) if card is not None and card.task == "segmentation" else None,
        names_beside(truth, of_truth=True) if truth is not None else None,
    ]
    first = next((names for names in told if names is not None), None)
    labels = wanted.labels or read_label_names(predictions)
    if first is None:
        # Masks that nobody named: a person who tells regions of them has named these numbers.
        members = sorted({number for numbers in (wanted.regions or {}).values() for number in numbers})
        return Names(labels or {number: str(number) for number in members})
    if labels is None:
        return first
    regions = {name: members for name, members in first.regions.items() if set(members) <= set(labels)}
    return Names(labels, regions, first.ignore_label)


def _card_of(predictions: Path) -> Card | None:
    """The card of the dataset that the model behind these predictions was trained on."""
    name = read_dataset_name(predictions)
    return load_card(name) if name is not None and is_known(name) else None


def names_of(labels: Mapping[int, str], card: Card, ignore_label: int | None) -> Names:
    """What a model answers for: the labels of its plan, and the card's regions of these."""
    held = {name: tuple(members) for name, members in card.regions.items() if set(members) <= set(labels)}
    return Names(dict(labels), held, ignore_label)


def pairs_of(predicted: Sequence[tuple[Case, Path]], card: Card, names: Names, wanted: Wanted) -> list[Pair]:
    """The pairs of a dataset's cases and their predictions; cases without a mask are left out."""
    measures = wanted.measures(card, names)
    return [
        Pair(
            case.id,
            case.patient,
            path,
            case.label,
            names.labels,
            names.ignore_label,
            case.unlabelled,
            measures=measures,
            suv=suv_of(case, card),
        )
        for case, path in predicted
        if case.label is not None
    ]
