"""From an image on disk to a mask in the image's own geometry, or to the probabilities of classes."""

from segue.predict.classes import Answer, Classifying, predicted_names, write_answers
from segue.predict.inputs import gather
from segue.predict.masks import mask_path
from segue.predict.postprocessing import LabelChoice, PostProcessing, Trial, read_postprocessing
from segue.predict.predictor import Prediction, Predictor, predict_cases

__all__ = [
    "Answer",
    "Classifying",
    "LabelChoice",
    "PostProcessing",
    "Prediction",
    "Predictor",
    "Trial",
    "gather",
    "mask_path",
    "predict_cases",
    "predicted_names",
    "read_postprocessing",
    "write_answers",
]
