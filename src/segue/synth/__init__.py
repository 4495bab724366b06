"""Synthetic images with known truth."""

from segue.synth.generate import generate, write_patient
from segue.synth.look_alike import look_alike
from segue.synth.petct import PetCtPatient, PetCtSettings, patient

__all__ = ["PetCtPatient", "PetCtSettings", "generate", "look_alike", "patient", "write_patient"]
