#!/usr/bin/env python
"""scripts/train.py --config configs/x.yaml [options of segue train]"""
import sys

from segue.cli import main

main(["train", *[word.removeprefix("--config=") for word in sys.argv[1:] if word != "--config"]])
