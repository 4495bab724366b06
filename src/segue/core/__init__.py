"""Errors, typed settings, console, atomic files, executors, seeds: nothing about images."""
