#!/usr/bin/env python
"""scripts/train.py --config configs/x.yaml [options of segue train]"""

import sys

from segue.cli import main

if __name__ == "__main__":
    main(["train", *[word.removeprefix("--config=") for word in sys.argv[1:] if word != "--config"]])
