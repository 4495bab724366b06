"""The run-time type checker that reads the shape annotations of the whole package during tests."""

from beartype import BeartypeConf, beartype

# An int is a fine float, as PEP 484 has it.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
