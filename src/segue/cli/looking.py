"""``check``, ``view`` and ``doctor``: looking at data before training, at what came of it, and at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segue.cli.options import Cache, Cluster, Data, Memory, Shard, Workers, at_hand, begin_work
from segue.core.console import result


def check(
    what: Annotated[
        str, typer.Argument(help="A dataset's name, a card (.yaml), a folder, an image, or an address (s3://...).")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for check.html, .csv and .json; else checks/NAME.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(help="Make a new dataset in this folder with what can be repaired safely.")
    ] = None,
    data: Data = Path("data"),
    workers: Workers = None,
    cluster: Cluster = None,
    shard: Shard = None,
    memory: Memory = None,
    cache: Cache = None,
) -> None:
    """Find what is wrong with images and labels.

    Exit code 3 if there are errors.

    Example: segue check msd/hippocampus
    """
    from segue.workflow.check_tables import finding_lines
    from segue.workflow.checking import check as run_check
    from segue.workflow.checking import fixed, write_check
    from segue.workflow.inspecting import describe

    begin_work(cluster, shard, memory)
    what = str(at_hand(what, data))
    checked = run_check(what, data, workers, cache)
    single = Path(what).is_file() and not what.endswith((".yaml", ".yml"))
    if single and not checked.errors:
        for name, value in describe(Path(what)):
            result(f"{name:<12} {value}")
    # A shard's part is shown by the run that gathers.
    written = [] if shard or (single and output is None) else write_check(checked, output)
    if written:
        result(f"all of it: {', '.join(map(str, written))}")
    for line in finding_lines(checked):
        result(line)
    if fix is not None:
        for line in fixed(checked, fix):
            result(line)
    if checked.errors:
        raise typer.Exit(3)


def view(
    what: Annotated[list[str], typer.Argument(metavar="WHAT", help="Runs, a dataset, a folder, or images.")],
    report: Annotated[
        bool, typer.Option("--report", help="Write a run's report.html again, of several the page that compares them.")
    ] = False,
    png: Annotated[bool, typer.Option("--png", help="Write pictures instead: slices, projections, outlines.")] = False,
    output: Annotated[Path, typer.Option("-o", "--output", help="With --png: the folder of the pictures.")] = Path(),
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
    data: Data = Path("data"),
) -> None:
    """Look at data and results in the browser.

    Serves them to this machine alone until Ctrl-C; from a remote machine through ssh. Verdicts on cases are written
    to verdicts.csv beside the data. With --report: one file that needs no server, for later and for others. With
    --png: pictures in the current folder; a label map among the images is outlined on the image of its grid.

    Example: segue view runs/hippo
    """
    what = [str(at_hand(each, data)) for each in what]
    if report:
        from segue.workflow.reporting import renew_report

        result(str(renew_report([Path(name) for name in what], browser=not no_browser)))
        return
    if png:
        from segue.workflow.picturing import write_pictures

        if not write_pictures(what, output, data, result):
            raise typer.Exit(3)
        return
    from segue.view.room import serve
    from segue.workflow.reading_room import open_room

    serve(open_room(what, data), browser=not no_browser)


def doctor(data: Data = Path("data")) -> None:
    """Say what is slow or wrong on this machine.

    And what to do. Attach it to a report of a bug: it names no person, no patient and no folder. Exit code 4 if
    something is wrong.

    Example: segue doctor
    """
    from segue.workflow.doctor import examine_machine, report

    symptoms = list(examine_machine(data))
    result("\n".join(report(symptoms)))
    if any(symptom.state == "wrong" for symptom in symptoms):
        raise typer.Exit(4)
