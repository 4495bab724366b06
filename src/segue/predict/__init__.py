"""From an image on disk to a mask in the image's own geometry."""

from segue.predict.inputs import gather
from segue.predict.predictor import Prediction, Predictor, predict_cases

__all__ = ["Prediction", "Predictor", "gather", "predict_cases"]
