"""From an image on disk to a mask in the image's own geometry, or to the probabilities of classes.

Each name is imported when it is first asked for: an exported model is run without torch.
"""

from typing import TYPE_CHECKING

from segue.core.lazy import on_demand

if TYPE_CHECKING:
    from segue.predict.answers import Answer, predicted_names, write_answers
    from segue.predict.classes import Classifying
    from segue.predict.exported import EXPORTED_SUFFIXES, ExportedModel, ExportFormat, described
    from segue.predict.exporting import write_networks
    from segue.predict.inputs import gather
    from segue.predict.masks import mask_path
    from segue.predict.onnx import OnnxClassifying, OnnxPredictor, open_exported
    from segue.predict.onnx_cases import Made, predict_exported
    from segue.predict.postprocessing import LabelChoice, PostProcessing, Trial, read_postprocessing
    from segue.predict.predictor import Model, Prediction, Predictor, predict_cases

__getattr__ = on_demand(
    __name__,
    {
        "answers": ("Answer", "predicted_names", "write_answers"),
        "classes": ("Classifying",),
        "exported": ("EXPORTED_SUFFIXES", "ExportedModel", "ExportFormat", "described"),
        "exporting": ("write_networks",),
        "inputs": ("gather",),
        "masks": ("mask_path",),
        "onnx": ("OnnxClassifying", "OnnxPredictor", "open_exported"),
        "onnx_cases": ("Made", "predict_exported"),
        "postprocessing": ("LabelChoice", "PostProcessing", "Trial", "read_postprocessing"),
        "predictor": ("Model", "Prediction", "Predictor", "predict_cases"),
    },
)

__all__ = [
    "EXPORTED_SUFFIXES",
    "Answer",
    "Classifying",
    "ExportFormat",
    "ExportedModel",
    "LabelChoice",
    "Made",
    "Model",
    "OnnxClassifying",
    "OnnxPredictor",
    "PostProcessing",
    "Prediction",
    "Predictor",
    "Trial",
    "described",
    "gather",
    "mask_path",
    "open_exported",
    "predict_cases",
    "predict_exported",
    "predicted_names",
    "read_postprocessing",
    "write_answers",
    "write_networks",
]
