#!/usr/bin/env python
"""scripts/create_synthetic_petct.py --output data/synthetic --num-patients 10"""

from segue.cli import run_script
from segue.workflow.demo import create_synthetic_petct

if __name__ == "__main__":
    run_script(create_synthetic_petct)
