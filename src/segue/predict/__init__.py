"""From an image on disk to a mask in the image's own geometry, or to the probabilities of classes."""

from segue.predict.classes import Answer, Classifying, predicted_names, write_answers
from segue.predict.inputs import gather
from segue.predict.masks import mask_path
from segue.predict.predictor import Prediction, Predictor, predict_cases

__all__ = [
    "Answer",
    "Classifying",
    "Prediction",
    "Predictor",
    "gather",
    "mask_path",
    "predict_cases",
    "predicted_names",
    "write_answers",
]
