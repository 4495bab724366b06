"""The command line: parse, call one workflow, print its summary."""

from segue.cli.main import main, run_script

__all__ = ["main", "run_script"]
