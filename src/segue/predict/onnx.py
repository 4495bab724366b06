"""An exported model at work: onnxruntime and numpy, no torch.

The same rules as for a run folder, in 32-bit floats: see :class:`segue.predict.predictor.Predictor` for masks and
:class:`segue.predict.classes.Classifying` for classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from segue.catalogue import Card, Case
from segue.core.errors import DataError, MachineError, UsageError
from segue.core.executor import cpu_count
from segue.core.files import content_key, file_digest
from segue.metrics import postprocessed
from segue.predict.answers import Answer, answer_cases
from segue.predict.exported import EMBEDDED, ExportedModel, read_exported
from segue.predict.requiring import require_fit
from segue.predict.windows import Network, sliding_slabs, streamed_labels, thinnest_axis
from segue.prepare import Plan, Stack, StackImages, prepared_image
from segue.volume import Volume

INSTALL = 'pip install "segue[onnx]"'
# Images of classes that a network answers for at once.
_FORWARD_VOXELS = 500_000


@dataclass(frozen=True)
class Exported:
    """An export, opened.

    Attributes:
        model: what its JSON says.
        files: of the networks, one per fold.
        networks: ``(batch, c, i, j, k)`` to logits.
    """

    model: ExportedModel
    files: tuple[Path, ...]
    networks: tuple[Network, ...]

    @property
    def key(self) -> str:
        """Of all weights and everything that is done before and after: the same model gives the same key."""
        said = self.model.model_dump(exclude={"networks", "preprocessing", "postprocessing", "card", "segue"})
        return content_key([file_digest(path) for path in self.files], said)


def open_exported(path: Path, device: str = "auto") -> Exported:
    """The export that a network's file (``.onnx``) or its JSON belongs to.

    A network's file says by itself all that is needed; given the JSON, what stands there counts.

    Raises:
        UsageError: no such file, or one that onnxruntime cannot run. DataError: damaged, not written by segue, of a
        later version, or a fold is missing. MachineError: onnxruntime or the device is not there.
    """
    if path.suffix == ".pt2":
        raise UsageError(
            "a .pt2 file is for programs of your own that load it with torch.export.load",
            where=path,
            remedy="give the run folder, or what segue export model --to onnx wrote",
        )
    if not path.is_file():
        raise UsageError("no such file", where=path, remedy="give the .onnx that segue export model wrote")
    device = _device(device)
    if path.suffix == ".json":
        model = _beside(path)
    else:
        session = _session(path, device)
        model = _embedded(session, path)
        if len(model.networks) == 1:  # it may have been renamed
            return Exported(model, (path,), (_network(session),))
    files = tuple(path.parent / name for name in model.networks)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            "a network of this export is missing",
            where=path.parent,
            value=", ".join(missing),
            remedy="put all files of the export beside each other, under the names that they had",
        )
    networks = []
    for file in files:
        session = _session(file, device, several=len(files) > 1)
        found = _embedded(session, file)
        if found.id != model.id:
            raise DataError(
                "this network is of another export than what was given",
                where=file,
                value=f"{found.id}, expected {model.id}",
                remedy="put the files of one export together, or export the run again",
            )
        networks.append(_network(session))
    return Exported(model, files, tuple(networks))


def _beside(path: Path) -> ExportedModel:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("this file cannot be read as text", where=path, value=error) from error
    model = read_exported(text, path)
    if model.to != "onnx":
        raise UsageError(
            "this JSON belongs to an export for torch",
            where=path,
            value=", ".join(model.networks),
            remedy="give the run folder, or what segue export model --to onnx wrote",
        )
    return model


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MachineError("running an exported model needs onnxruntime", remedy=INSTALL) from None
    return onnxruntime


def _device(name: str) -> str:
    """``cpu`` or ``cuda``.

    Raises:
        MachineError: onnxruntime or the device is not there.
    """
    there = {"cuda": "CUDAExecutionProvider" in _runtime().get_available_providers(), "cpu": True}
    if name == "auto":
        return next(kind for kind, available in there.items() if available)
    if not there.get(name, False):
        raise MachineError(
            "onnxruntime does not run on this device",
            where=name,
            value=f"onnxruntime {_runtime().__version__} has {', '.join(kind for kind, yes in there.items() if yes)}",
            remedy="leave --device out; for NVIDIA GPUs: pip install onnxruntime-gpu",
        )
    return name


def _session(path: Path, device: str, several: bool = False) -> Any:
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = cpu_count()
    # Each of several would keep the memory of its largest window for itself.
    options.enable_cpu_mem_arena = not several
    options.log_severity_level = 3
    providers = [*(["CUDAExecutionProvider"] if device == "cuda" else []), "CPUExecutionProvider"]
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        # onnxruntime's errors have no class of their own in common.
        raise DataError(
            "this is no network that onnxruntime can run",
            where=path,
            value=str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
            remedy="if it was cut off, copy it again; else export the model again, or update onnxruntime",
        ) from error


def _network(session: Any) -> Network:
    name = session.get_inputs()[0].name

    def network(images: np.ndarray) -> np.ndarray:
        return session.run(None, {name: np.ascontiguousarray(images)})[0]

    return network


def _embedded(session: Any, path: Path) -> ExportedModel:
    text = session.get_modelmeta().custom_metadata_map.get(EMBEDDED)
    if text is None:
        raise DataError(
            "this network was not written by segue: it does not say how images are prepared for it",
            where=path,
            remedy="write one with segue export model RUN --to onnx",
        )
    return read_exported(text, path)


class OnnxPredictor:
    """Masks by an exported model, as :class:`segue.predict.Predictor` makes them of a run folder."""

    def __init__(self, exported: Exported) -> None:
        self.exported = exported
        self.plan: Plan = exported.model.plan
        self.card: Card = exported.model.card
        self.key = exported.key

    def predict(self, image: Volume, absent: Sequence[int] = ()) -> Volume:
        """Labels of an image with the plan's channels, on exactly the image's own grid.

        Args:
            absent: numbers of optional channels that the image lacks; what stands in their place is not looked at.

        Raises:
            DataError: another number of channels, NaN in the image, or a channel is absent that the model needs.
        """
        require_fit(image, self.plan, absent)
        ready = prepared_image(image, self.plan, absent)
        canonical = image.geometry.oriented("RAS")
        along = thinnest_axis(ready.geometry.shape, self.plan.patch)
        slabs = self._scores(ready.array, along)
        labels = streamed_labels(slabs, self.plan, ready.geometry, canonical, along)
        labels = postprocessed(labels, self.exported.model.rules, canonical.voxel_ml)
        back = Volume(labels[None], canonical, "labels").oriented(image.geometry.axis_codes)
        # The same grid, but without the rounding of two changes of orientation.
        return Volume(np.ascontiguousarray(back.array), image.geometry, "labels", "labels")

    def _scores(self, ready: Float32[np.ndarray, "c i j k"], along: int) -> Iterator[Float32[np.ndarray, "n x y z"]]:
        """In slabs, logits of one network; of several the mean of their probabilities, of regions less a half."""
        plan = self.plan
        padding = np.array([rule.outside for rule in plan.normalisation], np.float32)
        each = [
            sliding_slabs(
                network,
                ready,
                patch=plan.patch,
                overlap=plan.overlap,
                batch=plan.batch,
                padding=padding,
                along=along,
            )
            for network in self.exported.networks
        ]
        if len(each) == 1:
            yield from each[0]
            return
        for slabs in zip(*each, strict=True):
            # Regions are yes where the mean probability is above a half: a logit above 0.
            shares = [_sigmoid(part) - np.float32(0.5) if plan.regions else _softmax(part, 0) for part in slabs]
            yield np.mean(shares, axis=0)


class OnnxClassifying:
    """Classes by an exported model, as :class:`segue.predict.Classifying` answers with a run folder."""

    def __init__(self, exported: Exported) -> None:
        self.exported = exported
        self.plan: Plan = exported.model.plan
        self.card: Card = exported.model.card

    def answers(self, cases: Sequence[Case], arrays: Path) -> Iterator[Answer]:
        """Every case in order; a bad case is among them with its error.

        Args:
            arrays: where arrays of an ``.npz`` are unpacked for memory mapping.
        """
        return answer_cases(cases, self.card, self.plan, arrays, self._of_stack)

    def _of_stack(self, stack: Stack) -> Iterator[np.ndarray]:
        images = StackImages(stack, self.plan)
        each = [np.concatenate(list(self._answered(network, images))) for network in self.exported.networks]
        yield np.mean(each, axis=0, dtype=float)

    def _answered(self, network: Network, images: StackImages) -> Iterator[Float32[np.ndarray, "b k"]]:
        """Probabilities, averaged over the images mirrored along the plan's axes, in all combinations."""
        plan = self.plan
        axes = [axis + 2 for axis in plan.mirror_axes if plan.patch[axis] > 1]
        views = [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]
        step = max(1, _FORWARD_VOXELS // int(np.prod(plan.patch)))
        for first in range(0, len(images.stack), step):
            batch = images.arrays(np.arange(first, min(first + step, len(images.stack))))
            logits = (network(np.flip(batch, view)) for view in views)
            share = [_sigmoid(part) if plan.classes == "multi-label" else _softmax(part, 1) for part in logits]
            yield np.mean(share, axis=0)


def _softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    share = np.exp(logits - logits.max(axis, keepdims=True))
    share /= share.sum(axis, keepdims=True)
    return share


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # Half a hyperbolic tangent, and a half: no overflow.
    return np.float32(0.5) * np.tanh(np.float32(0.5) * logits) + np.float32(0.5)
