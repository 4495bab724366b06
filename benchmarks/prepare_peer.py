"""nnU-Net's side of ``benchmarks/prepare.py``, in an environment with nnU-Net 2.8.

    nnunet/bin/python -P benchmarks/prepare_peer.py FOLDER --factor 1.5

Resamples ``image.npy`` of FOLDER as its preprocessing does images (order 3) into ``nnunet.npy``; prints one line of
JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--factor", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    image = np.load(given.folder / "image.npy")[None]
    shape = [round(size * given.factor) for size in image.shape[1:]]
    found = []
    for _ in range(given.rounds):
        wall, processor = time.perf_counter(), time.process_time()
        result = resample_data_or_seg_to_shape(image, shape, [given.factor] * 3, [1.0] * 3, order=3, order_z=0)
        found.append((time.process_time() - processor, time.perf_counter() - wall))
    np.save(given.folder / "nnunet.npy", result[0].astype(np.float32))
    print(json.dumps(dict(zip(("processor_s", "wall_s"), map(min, zip(*found, strict=True)), strict=True))))


if __name__ == "__main__":
    main()
