"""Reading a .nii.gz beside nibabel and SimpleITK, and resampling beside SimpleITK, with the same number of threads.

    python benchmarks/read.py --threads 1

The volume is made: a body of 512 x 512 x 250 int16 voxels with noise, written by nibabel. Programs take turns.
Resampled is a smooth float32 volume of 256 x 256 x 150, to another spacing on the same axes and to a grid turned
against it, with cubic B-splines and linearly; ``differs`` is the largest difference from SimpleITK where values have a
deviation of 100.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def best(tasks: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of each task's best round, in turn, and what it gave."""
    seconds = dict.fromkeys(tasks, float("inf"))
    results = {}
    for _ in range(rounds):
        for name, task in tasks.items():
            results[name] = None
            started = time.perf_counter()
            results[name] = task()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds, results


def reading(slices: int, rounds: int, folder: Path) -> None:
    import nibabel
    import numpy as np
    import SimpleITK

    from segue.images import read

    random = np.random.default_rng(0)
    x, y = np.mgrid[:512, :512]
    body = ((x - 256) / 230) ** 2 + ((y - 256) / 170) ** 2 < 1
    array = np.empty((512, 512, slices), np.int16, order="F")
    for k in range(slices):
        array[..., k] = np.where(body, 40 + random.normal(0, 12, body.shape), -1000)
    path = folder / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, np.diag([0.8, 0.8, 1.0, 1.0])), path)
    seconds, results = best(
        {
            "segue": lambda: read(path).array[0],
            "nibabel": lambda: np.asarray(nibabel.load(path).dataobj),
            "SimpleITK": lambda: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).T,
        },
        rounds,
    )
    print(f"\nreading 512x512x{slices} int16, {path.stat().st_size / 1e6:.0f} MB packed")
    for name, value in seconds.items():
        same = np.array_equal(results[name], array)
        print(f"{name:<12}{value:8.3f} s   segue is {value / seconds['segue']:.2f} times as fast   same voxels: {same}")


def resampling(threads: int, rounds: int) -> None:
    import numpy as np
    import SimpleITK
    from scipy import ndimage

    from segue.volume import Geometry, Volume

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    shape = (256, 256, 150)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 1.5)
    source = Geometry(shape, np.diag([-0.9, -0.9, 1.5, 1.0]))
    volume = Volume((noise / noise.std() * 100).astype(np.float32)[None], source)
    turn = np.array(SimpleITK.Euler3DTransform((0, 0, 0), 0.1, 0.05, 0.2).GetMatrix()).reshape(3, 3)
    oblique = np.eye(4)
    oblique[:3, :3] = turn @ np.diag([-1.0, -1.0, 1.2])
    oblique[:3, 3] = source.affine[:3, :3] @ (np.array(shape) / 2) - oblique[:3, :3] @ np.array([100, 100, 80])
    grids = {
        "same axes": Geometry((230, 200, 190), np.diag([-1.0, -1.1, 1.2, 1.0])),
        "oblique": Geometry((200, 200, 160), oblique),
    }
    print(f"\nresampling 256x256x150 float32, {threads} threads")
    for name, grid in grids.items():
        for order, kind in ((3, SimpleITK.sitkBSpline), (1, SimpleITK.sitkLinear)):
            theirs = _itk_resampled(SimpleITK, volume, grid, kind)
            ours = lambda order=order, grid=grid: volume.resampled_to(grid, order=order, fill=-1000.0).array[0]  # noqa: E731
            seconds, results = best({"segue": ours, "SimpleITK": theirs}, rounds)
            apart = np.abs(results["segue"] - SimpleITK.GetArrayViewFromImage(results["SimpleITK"]).T).max()
            times = seconds["SimpleITK"] / seconds["segue"]
            print(
                f"{name:<10} order {order}: segue {seconds['segue']:.3f} s, SimpleITK {seconds['SimpleITK']:.3f} s, "
                f"segue is {times:.2f} times as fast, differs by {apart:.1g}"
            )


def _itk_resampled(itk: Any, volume: Any, grid: Any, kind: Any) -> Callable[[], Any]:
    import numpy as np

    def image_on(array: Any, geometry: Any) -> Any:
        image = itk.GetImageFromArray(np.ascontiguousarray(array.T))
        flip = np.diag([-1.0, -1.0, 1.0])
        image.SetSpacing(geometry.spacing_mm)
        image.SetDirection((flip @ geometry.affine[:3, :3] / np.array(geometry.spacing_mm)).ravel())
        image.SetOrigin(flip @ geometry.affine[:3, 3])
        return image

    image = image_on(volume.array[0], volume.geometry)
    reference = image_on(np.zeros(grid.shape, np.uint8), grid)
    return lambda: itk.Resample(image, reference, itk.Transform(), kind, -1000.0, itk.sitkFloat32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slices", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)  # before numpy comes
    with tempfile.TemporaryDirectory() as folder:
        reading(options.slices, options.rounds, Path(folder))
    resampling(options.threads, options.rounds)


if __name__ == "__main__":
    main()
