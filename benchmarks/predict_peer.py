"""nnU-Net's side of ``benchmarks/predict.py``: a model folder with random weights; runs in nnU-Net's own environment.

    PEER benchmarks/predict_peer.py WORK.json MODEL

WORK.json says channels, labels, spacing, patch (in the order of nnU-Net's axes) and the arguments of its network. The
folder is what ``nnUNetv2_train`` leaves; ``MODEL/weights.pt`` has the weights alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def plans_of(work: dict[str, Any]) -> dict[str, Any]:
    """nnU-Net's plans with one configuration; values are clipped and scaled as those of CT."""
    statistics = {
        "mean": work["mean"],
        "std": work["std"],
        "percentile_00_5": work["low"],
        "percentile_99_5": work["high"],
        "min": work["low"],
        "max": work["high"],
        "median": work["mean"],
    }
    count = work["channels"]
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": work["patch"],
        "median_image_size_in_voxels": [float(side) for side in work["patch"]],
        "spacing": work["spacing_mm"],
        "normalization_schemes": ["CTNormalization"] * count,
        "use_mask_for_norm": [False] * count,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                **work["network"],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = {**RESAMPLING, "is_seg": what == "seg", "order": order}
    return {
        "dataset_name": "Dataset999_Bench",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": work["spacing_mm"],
        "original_median_shape_after_transp": work["patch"],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(number): statistics for number in range(count)},
    }


def main() -> None:
    work, model = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    plans = plans_of(work)
    listing = {
        "channel_names": {str(number): "CT" for number in range(work["channels"])},
        "labels": {"background": 0, **{f"label{number}": number for number in range(1, work["labels"] + 1)}},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(listing))
    manager = PlansManager(plans)
    torch.manual_seed(0)
    network = nnUNetTrainer.build_network_architecture(
        manager, manager.get_configuration("3d_fullres"), work["channels"], work["labels"] + 1, False
    )
    for parameter in network.parameters():
        parameter.data *= work.get("gain", 1.0)
    weights = network.state_dict()
    torch.save(weights, model / "weights.pt")
    torch.save(
        {
            "network_weights": weights,
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": "3d_fullres"},
            "inference_allowed_mirroring_axes": None,
        },
        model / "fold_0" / "checkpoint_final.pth",
    )


if __name__ == "__main__":
    main()
