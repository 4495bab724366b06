#!/usr/bin/env python
"""scripts/download_data.py --dataset msd --task liver --output data/ [--list]"""

from segue.cli import run_script
from segue.workflow.getting import download_data

if __name__ == "__main__":
    run_script(download_data)
