"""Synthetic images with known truth."""

from segue.synth.generate import generate, write_patient
from segue.synth.petct import PetCtPatient, PetCtSettings, patient

__all__ = ["PetCtPatient", "PetCtSettings", "generate", "patient", "write_patient"]
