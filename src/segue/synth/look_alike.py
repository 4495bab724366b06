"""A tiny synthetic look-alike of what a person downloads: true names, types, labels and traps, made-up images."""

from __future__ import annotations

import csv
import io
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segue.catalogue import Card
from segue.catalogue.card import DecathlonLayout, FilesLayout, NnunetLayout, NpzLayout, PetCtLayout
from segue.core.errors import UsageError
from segue.core.files import write_json, write_text
from segue.core.seeds import generator
from segue.images import NIFTI_SUFFIXES, write
from segue.synth.generate import generate
from segue.synth.look_alike_arrays import npz
from segue.synth.look_alike_files import apple_double, files, inside, not_made
from segue.synth.petct import OUTSIDE_CT_HU, PetCtSettings
from segue.synth.scene import Sample, Scene, samples
from segue.volume import Volume

_CT_FINER = 2
_CT_NARROWER = 2  # voxels of the PET on either side: beyond the CT's field of view CTres is filled
_BQ_PER_ML_AT_SUV_1 = 4200.0


def look_alike(card: Card, folder: Path, number: int = 4, seed: int = 0) -> Path:
    """Write what a person would have downloaded into ``folder``, an empty one, and say which file or folder it is.

    It has ``number`` training cases and one or two of each official part; an ``.npz`` has as many items in each part
    (more where that takes to show every class). Names, layout, types and labels are the dataset's own; images are a
    few dozen voxels wide, and the same seed gives the same bytes.

    Raises:
        UsageError: no case is wanted, the card gives no names, or an image format that is not made here.
        MachineError: the disk is full or may not be written.
    """
    if number < 1:
        raise UsageError("at least one case is needed", value=number, remedy="ask for 1 or more")
    folder.mkdir(parents=True, exist_ok=True)
    if card.access.kind == "generated":
        made = folder / card.name.rpartition("/")[2]
        generate(made, number, PetCtSettings(size="small", negatives=0.25, seed=seed), workers=1)
        return made
    return _MAKERS[type(card.layout)](card, folder, number, seed)


def _decathlon(card: Card, folder: Path, number: int, seed: int) -> Path:
    """A tar with one folder, AppleDouble files, channels as a fourth axis, test images without masks."""
    assert isinstance(card.layout, DecathlonLayout), "chosen by its type"
    top = card.layout.folder or card.name.rpartition("/")[2]
    archive = inside(folder, f"{top}.tar")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place) / top
        made = samples(card, number, seed)
        for sample in made:
            name = f"{sample.name.id}.nii.gz"
            scene = Scene(card, sample, seed)
            part = "Tr" if sample.name.part == "train" else "Ts"
            write(scene.channels(range(len(card.channels))), root / f"images{part}" / name)
            apple_double(root / f"images{part}" / f"._{name}")
            if part == "Tr":
                write(scene.labels, root / "labelsTr" / name)
                apple_double(root / "labelsTr" / f"._{name}")
        apple_double(root / "._dataset.json")
        apple_double(Path(place) / f"._{top}")
        write_json(root / "dataset.json", _decathlon_listing(card, top, made))
        with tarfile.open(archive, "w") as tar:
            for path in sorted(Path(place).rglob("*")):
                tar.add(path, f"./{path.relative_to(place).as_posix()}", recursive=False, filter=_anonymous)
    return archive


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Neither who made it nor when: the same seed gives the same bytes."""
    member.uid = member.gid = member.mtime = 0
    member.mode = 0o755 if member.isdir() else 0o644
    member.uname = member.gname = ""
    return member


def _decathlon_listing(card: Card, top: str, made: Sequence[Sample]) -> dict[str, Any]:
    train = [sample.name.id for sample in made if sample.name.part == "train"]
    test = [sample.name.id for sample in made if sample.name.part == "test"]
    return {
        "name": top.partition("_")[2] or top,
        "description": "A synthetic look-alike",
        "reference": "none",
        "licence": card.licence.spdx if card.licence else "",
        "relase": "1.0 04/05/2018",  # spelt so in the hippocampus task
        "tensorImageSize": "4D" if len(card.channels) > 1 else "3D",
        "modality": {str(n): "CT" if c.unit == "HU" else c.name for n, c in enumerate(card.channels)},
        "labels": {"0": "background", **{str(n): name for n, name in card.labels.items()}},
        "numTraining": len(train),
        "numTest": len(test),
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in train],
        "test": [f"./imagesTs/{n}.nii.gz" for n in test],
    }


def _petct(card: Card, folder: Path, number: int, seed: int) -> Path:
    """``PATIENT/STUDY`` with the CT on its own finer grid; CTres, PET, SUV and SEG share one, another in each study."""
    download = folder / "nifti"
    top = download / ((card.collection and card.collection.tcia) or card.name.replace("/", "-"))
    made = []
    for sample in samples(card, number, seed):
        patient, study = sample.name.fields["patient"], sample.name.fields["case"]
        scene = Scene(card, sample, seed)
        ct_grid = scene.grid.with_spacing(_finer(scene.grid.spacing_mm))
        start, shape = _CT_FINER * _CT_NARROWER, ct_grid.shape
        ct_grid = ct_grid.cropped((start, start, 0), (shape[0] - 2 * start, shape[1] - 2 * start, shape[2]))
        ct = Volume(np.rint(scene.canonical(ct_grid, 0))[None], ct_grid, unit="HU")
        resampled = ct.resampled_to(scene.grid, order=1, fill=OUTSIDE_CT_HU)
        suv = scene.channels([1])
        places = {
            "CT": Volume(ct.array.astype(np.int16), ct_grid, unit="HU").oriented(scene.axis_codes),
            "CTres": Volume(resampled.array.astype(np.float32), scene.grid, unit="HU").oriented(scene.axis_codes),
            "PET": Volume(suv.array * np.float32(_BQ_PER_ML_AT_SUV_1), suv.geometry),
            "SUV": suv,
        }
        if card.task == "segmentation":
            places["SEG"] = scene.labels
        for name, volume in places.items():
            write(volume, top / patient / study / f"{name}.nii.gz")
        made.append(sample)
    first = made[0].name.fields
    apple_double(top / first["patient"] / first["case"] / "._SUV.nii.gz")
    if card.task == "segmentation":
        _metadata(top / f"{'psma' if 'psma' in card.name else 'fdg'}_metadata.csv", made, seed)
    return download


def _finer(spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    return spacing_mm[0] / _CT_FINER, spacing_mm[1] / _CT_FINER, spacing_mm[2]


def _metadata(path: Path, made: Sequence[Sample], seed: int) -> None:
    """The columns that the collection's own table has."""
    random = generator(seed, "metadata", path.name)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["Subject ID", "Study Date", "diagnosis", "age", "sex"])
    for sample in made:
        date = re.search("[0-9]+-[0-9]+-[0-9]+", sample.name.fields["case"])
        diagnosis = str(random.choice(["MELANOMA", "LYMPHOMA", "LUNG_CANCER"])) if sample.labels else "NEGATIVE"
        age, sex = f"{int(random.integers(20, 90)):03d}Y", str(random.choice(["F", "M"]))
        table.writerow([sample.patient, date.group() if date else "", diagnosis, age, sex])
    write_text(path, text.getvalue())


def _nnunet(card: Card, folder: Path, number: int, seed: int) -> Path:
    """nnU-Net's raw folder with ``dataset.json`` (version 2), five folds by patient, and a test image without mask."""
    assert isinstance(card.layout, NnunetLayout), "chosen by its type"
    suffix = card.layout.suffix
    if suffix not in NIFTI_SUFFIXES:
        raise not_made(card, suffix)
    download = folder / f"Dataset001_{card.name.replace('/', '-')}"
    made = samples(card, number, seed)
    for sample in made:
        part = "Tr" if sample.name.part == "train" else "Ts"
        scene = Scene(card, sample, seed)
        for channel in range(len(card.channels)):
            write(scene.channels([channel]), download / f"images{part}" / f"{sample.name.id}_{channel:04d}{suffix}")
        if part == "Tr":
            write(scene.labels, download / "labelsTr" / f"{sample.name.id}{suffix}")
    train = [sample for sample in made if sample.name.part == "train"]
    apple_double(download / "imagesTr" / f"._{train[0].name.id}_0000{suffix}")
    write_json(
        download / "dataset.json",
        {
            "channel_names": {str(number): channel.name for number, channel in enumerate(card.channels)},
            "labels": {"background": 0, **{name: number for number, name in card.labels.items()}},
            "numTraining": len(train),
            "file_ending": suffix,
        },
    )
    write_json(inside(download, card.split.file or "splits_final.json"), list(_folds(train, card.split.folds)))
    for tracer in sorted({sample.name.id.partition("_")[0] for sample in train if card.groups}):
        same = [sample for sample in train if sample.name.id.startswith(f"{tracer}_")]
        _metadata(download / f"{tracer}_metadata.csv", same, seed)
    return download


def _folds(train: Sequence[Sample], most: int) -> Iterator[dict[str, list[str]]]:
    patients = sorted({sample.patient for sample in train})
    count = min(most, len(patients))
    for fold in range(count):
        held_out = set(patients[fold::count])
        yield {
            "train": [sample.name.id for sample in train if sample.patient not in held_out],
            "val": [sample.name.id for sample in train if sample.patient in held_out],
        }


def _files(card: Card, folder: Path, number: int, seed: int) -> Path:
    return files(card, folder, samples(card, number, seed), seed)


_MAKERS: dict[type, Callable[[Card, Path, int, int], Path]] = {
    DecathlonLayout: _decathlon,
    PetCtLayout: _petct,
    NnunetLayout: _nnunet,
    NpzLayout: npz,
    FilesLayout: _files,
}
