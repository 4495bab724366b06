"""The networks of a run as files that other programs run: ONNX, or torch's own export.

What is written is checked by running it: traced code may leave out what a network of one's own decides by its input.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segue.core.errors import MachineError, UsageError
from segue.core.files import atomic_path
from segue.predict.exported import EMBEDDED, ExportedModel
from segue.predict.onnx import INSTALL
from segue.predict.predictor import Model

# Of the standard's versions one that every onnxruntime since 1.17 runs.
_OPSET = 20
# Logits of both sides may differ by this part of their own range.
_TOLERANCE = 1e-3


def write_networks(model: Model, exported: ExportedModel, folder: Path, text: str) -> float:
    """Write each member of ``model`` into ``folder``, in 32-bit floats, with ``text`` (its JSON) in it, and run it.

    Returns:
        The largest difference between the logits of a written network and of the run's own, on noise, as a part of
        the range of the logits.

    Raises:
        UsageError: a network that cannot be exported, or that answers otherwise once it is. MachineError: an extra is
            missing, or the disk is full.
    """
    write: Callable[[nn.Module, Tensor, Path, str], Callable[[np.ndarray], np.ndarray]]
    write = _write_onnx if exported.to == "onnx" else _write_torch
    size = (model.plan.inputs, *model.plan.patch)
    # A batch of two: of one, the batch might be taken for a number that never changes.
    example = torch.zeros(2, *size)
    noise = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    largest = 0.0
    for network, name in zip(model.networks(), exported.networks, strict=True):
        path = folder / name
        network = network.float().eval()
        with torch.no_grad():
            wanted = network(noise).numpy()
        found = write(network, example, path, text)(noise.numpy())
        difference = float(np.abs(found - wanted).max() / max(np.ptp(wanted), 1e-6))
        if not difference <= _TOLERANCE:
            path.unlink()
            raise UsageError(
                "the exported network answers otherwise than the run",
                where=model.plan.network.target or model.plan.network.name,
                value=f"logits of noise differ by {difference:.2g} of their range",
                remedy="its forward() must not decide anything by its input's values or batch",
            )
        largest = max(largest, difference)
    return largest


def _program(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:
        # torch's tracer raises many classes, some of them private.
        raise _refused(network, error) from error
    # Every operation carries the lines of code that it came from, with the folders of this machine.
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def _refused(network: nn.Module, error: Exception) -> UsageError:
    told = [line for line in str(error).splitlines() if line.strip()]
    return UsageError(
        "torch cannot export this network",
        where=type(network).__name__,
        value=f"{type(error).__name__}: {told[0][:200] if told else ''}",
        remedy="its forward() must be the same operations for every input and any batch: see torch.export's messages",
    )


def _write_onnx(network: nn.Module, example: Tensor, path: Path, text: str) -> Callable[[np.ndarray], np.ndarray]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MachineError("exporting to ONNX needs some packages", value=error.name, remedy=INSTALL) from None
    with _quiet():
        program = _program(network, example)
        try:
            converted = torch.onnx.export(
                program,
                (example,),
                dynamo=True,
                opset_version=_OPSET,
                input_names=["image"],
                output_names=["logits"],
                verbose=False,
            )
        except Exception as error:
            raise _refused(network, error) from error
    assert converted is not None, "torch gives back what it writes to no file"
    content: Any = converted.model_proto
    _forget_origins(content)
    content.metadata_props.add(key=EMBEDDED, value=text)
    try:
        data = content.SerializeToString()
    except ValueError as error:
        raise UsageError(
            "the network is too large for one ONNX file (2 GB)",
            where=type(network).__name__,
            remedy="export it with --to torch-export",
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": images})[0]


def _forget_origins(content: Any) -> None:
    """Take out which line of which file each operation came from: it tells of this machine, and is half of the file."""
    graphs = [content.graph, *content.functions]
    for graph in graphs:
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        del graph.metadata_props[:]
        for value in graph.value_info:
            del value.metadata_props[:]


def _write_torch(network: nn.Module, example: Tensor, path: Path, text: str) -> Callable[[np.ndarray], np.ndarray]:
    with _quiet():
        program = _program(network, example)
        with atomic_path(path) as temporary:
            torch.export.save(program, temporary, extra_files={f"{EMBEDDED}.json": text})
    # Not read back from the file: its reader unpickles. The program is what was written.
    module = program.module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks on packages that are not there and on its own past."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
