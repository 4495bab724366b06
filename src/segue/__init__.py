"""segue: from the name of a medical-imaging dataset to a trained, evaluated, inspectable model."""

__version__ = "0.1.0"
