"""From an image on disk to a mask in the image's own geometry, or to the probabilities of classes.

Each name is imported when it is first asked for: an exported model is run without torch.
"""

from typing import TYPE_CHECKING

from segue.core.lazy import on_demand

if TYPE_CHECKING:
    from segue.predict.answers import Answer, predicted_names, write_answers
    from segue.predict.cases import Delivery, Prediction, about, predict_cases
    from segue.predict.classes import Classifying
    from segue.predict.exported import EXPORTED_SUFFIXES, ExportedModel, ExportFormat, described
    from segue.predict.exporting import write_networks
    from segue.predict.inputs import gather
    from segue.predict.loading import load
    from segue.predict.masks import MaskForm, mask_path
    from segue.predict.matching import read_fingerprint, unlike_headers, unlike_values
    from segue.predict.onnx import OnnxClassifying, OnnxPredictor, open_exported
    from segue.predict.onnx_cases import Made, predict_exported
    from segue.predict.postprocessing import LabelChoice, PostProcessing, Trial, read_postprocessing
    from segue.predict.predictor import Model, Predictor
    from segue.predict.receipts import done_before, gather_receipts, write_receipt
    from segue.predict.slabs import Result, Wished

__getattr__ = on_demand(
    __name__,
    {
        "answers": ("Answer", "predicted_names", "write_answers"),
        "cases": ("Delivery", "Prediction", "about", "predict_cases"),
        "classes": ("Classifying",),
        "exported": ("EXPORTED_SUFFIXES", "ExportedModel", "ExportFormat", "described"),
        "exporting": ("write_networks",),
        "inputs": ("gather",),
        "loading": ("load",),
        "masks": ("MaskForm", "mask_path"),
        "matching": ("read_fingerprint", "unlike_headers", "unlike_values"),
        "onnx": ("OnnxClassifying", "OnnxPredictor", "open_exported"),
        "onnx_cases": ("Made", "predict_exported"),
        "postprocessing": ("LabelChoice", "PostProcessing", "Trial", "read_postprocessing"),
        "predictor": ("Model", "Predictor"),
        "receipts": ("done_before", "gather_receipts", "write_receipt"),
        "slabs": ("Result", "Wished"),
    },
)

__all__ = [
    "EXPORTED_SUFFIXES",
    "Answer",
    "Classifying",
    "Delivery",
    "ExportFormat",
    "ExportedModel",
    "LabelChoice",
    "Made",
    "MaskForm",
    "Model",
    "OnnxClassifying",
    "OnnxPredictor",
    "PostProcessing",
    "Prediction",
    "Predictor",
    "Result",
    "Trial",
    "Wished",
    "about",
    "described",
    "done_before",
    "gather",
    "gather_receipts",
    "load",
    "mask_path",
    "open_exported",
    "predict_cases",
    "predict_exported",
    "predicted_names",
    "read_fingerprint",
    "read_postprocessing",
    "unlike_headers",
    "unlike_values",
    "write_answers",
    "write_networks",
    "write_receipt",
]
