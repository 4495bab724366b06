"""The commands around the catalogue: ``datasets``, ``card``, ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segue.core.console import result

Data = Annotated[Path, typer.Option("--data", help="Where datasets lie.")]

card_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Write a card for images of your own.\n\nExample: segue card new my-images",
)
export_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Take a dataset or a model to another tool.\n\nExample: segue export dataset msd/hippocampus --to nnunet",
)


def datasets(
    words: Annotated[list[str] | None, typer.Argument(help="Names of datasets, or words to look for.")] = None,
    modality: Annotated[str | None, typer.Option(help="Only this modality, for example PET.")] = None,
    task: Annotated[str | None, typer.Option(help="segmentation, classification or unlabelled.")] = None,
    licence: Annotated[str | None, typer.Option(help="commercial (use allowed), or an SPDX identifier.")] = None,
    dimension: Annotated[int | None, typer.Option(min=2, max=3, help="2 or 3.")] = None,
    cite: Annotated[bool, typer.Option("--cite", help="What to cite, as BibTeX.")] = False,
    statistics: Annotated[bool, typer.Option("--statistics", help="The families of datasets side by side.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = Path("data"),
) -> None:
    """List the catalogue, or show one dataset.

    Example: segue datasets liver --licence commercial
    """
    import json

    from segue.catalogue import bibtex
    from segue.workflow import browsing

    wanted = browsing.Wanted(words or (), modality, task, licence, dimension)
    cards = browsing.selected(wanted)
    if cite:
        result(bibtex(citation for card in cards for citation in card.citations))
    elif as_json:
        result(json.dumps([browsing.as_json(card) for card in cards], indent=1))
    elif statistics:
        result(browsing.statistics(cards))
    elif wanted.by_name:
        result("\n\n\n".join(browsing.page(card, data) for card in cards))
    else:
        result(browsing.listing(cards, wanted))
        result("more of one: segue datasets NAME")


@card_app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="A folder with images, and masks if there are any.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The card (default: FOLDER/card.yaml).")] = None,
) -> None:
    """Look at a folder of images and write its card.

    What was guessed is shown, and stands as comments in the card: correct it there.

    Example: segue card new my-images
    """
    from segue.workflow.describing import write_card

    path, seen = write_card(folder, output)
    result(f"found: {seen.counts}")
    for guess in seen.guesses:
        result(f"  - {guess}")
    result(f"card: {path}")
    result(f"next: read it, correct it, then: segue check {path}")


@export_app.command()
def dataset(
    name: Annotated[str, typer.Argument(help="A dataset's name, a card (.yaml), or a folder.")],
    to: Annotated[Literal["nnunet", "monai", "csv"], typer.Option(help="For which tool.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where it goes.")] = Path("exported"),
    data: Data = Path("data"),
    workers: Annotated[int | None, typer.Option(min=1, help="Processes over cases (default: one per core).")] = None,
) -> None:
    """Write a dataset as nnU-Net or MONAI want it, or as a table.

    Files are linked, not copied, where the other tool can read them as they are. Exit code 3 if a case was left out.

    Example: segue export dataset msd/hippocampus --to nnunet -o nnUNet_raw
    """
    from segue.catalogue import open_dataset
    from segue.workflow.exporting import export_dataset

    done = export_dataset(open_dataset(name, data), to, output, workers)
    kept = f", {done.kept} there already" if done.kept else ""
    result(f"{done.cases} cases in {done.path}: {done.linked} files linked, {done.written} written{kept}")
    for note in done.notes:
        result(f"  - {note}")
    if done.left_out:
        raise typer.Exit(3)


@export_app.command()
def model(
    run: Annotated[Path, typer.Argument(help="The run folder of a training.")],
    to: Annotated[Literal["onnx", "torch-export"], typer.Option(help="In which form.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder, or the network's file (default: RUN/onnx).")
    ] = None,
) -> None:
    """Write a trained model as files that need no run folder, and with onnx no torch.

    The network, a JSON with plan, labels and what comes before and after it, and MODEL_CARD.md. Then, wherever
    onnxruntime is: segue predict model.onnx IMAGES -o OUT

    Example: segue export model runs/hippo --to onnx -o hippo
    """
    from segue.workflow.exporting.model import export_model

    done = export_model(run, to, output)
    for path in (*done.networks, done.json, done.card):
        result(str(path))
    result(f"logits differ from the run's by {done.difference:.1g} of their range at most")
