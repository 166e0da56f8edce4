"""A build, from its first file to its publication."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from export.builder import OnnxBuild
from export.files import write_json
from export.options import Options
from export.plans.builder import PlanBuild
from export.publishing.builds import Builds
from export.publishing.layout import REPORT_FILE
from export.publishing.repository import check_whole, complete, published_identity
from export.report import Outcome, describe_build, tolerances_by_hand
from export.staging import Result
from export.verification.drift import drift


def make(
    options: Options, builds: Builds, command: str, progress: Callable[[str], None]
) -> tuple[dict[str, Any], Outcome]:
    """Make the files of a build, and publish it if it is whole; the report, and the same in objects.

    Args:
        options: as the user gave them.
        builds: of the repository; locked.
        command: the command line, for what is written down.
        progress: told of what takes long.
    """
    staged, earlier = replace(options, repository=builds.begin()), [builds.repository, builds.previous, *options.reuse]
    builder = OnnxBuild(staged, earlier, progress)
    onnx = builder.build(filter(options.asks_for, options.models))
    parities = [(model.name, builder.servable(model)) for model in options.models]
    stale = [name for name, parity in parities if parity is None]
    plans: list[Result] = []
    planned = [model for model in options.models if options.runs_plan(model)]
    if planned and not any(result.status == "failed" for result in onnx):
        planner = PlanBuild(staged, builder.ingredients.samples, command, earlier, progress)
        plans = planner.build(model for model in planned if model.name not in stale and options.asks_for(model))
        of_plans = [(model.name, planner.servable(model)) for model in planned if model.name not in stale]
        stale += [name for name, parity in of_plans if parity is None]
        parities += of_plans
    build = {**describe_build(options, builder.ingredients), "tolerances": tolerances_by_hand(parities)}
    outcome = Outcome(onnx, plans, build, stale)
    report = outcome.report()
    if not outcome.failed and not stale:
        report["drift"] = drift(builder.ingredients, staged.repository)
        publish(staged, builds, build, report)
    return report, outcome


def publish(staged: Options, builds: Builds, build: dict[str, Any], report: dict[str, Any]) -> None:
    """Complete a build whose models are all there, read it again, and let it be the repository.

    Where it is the published one over again, that stays, and so does the one before it.

    Raises:
        NotWhole: a file on disk is not the one that was verified.
    """
    name = complete(staged, build)
    check_whole(staged.repository)
    write_json(staged.repository / REPORT_FILE, report)
    if published_identity(builds.repository) == name:
        write_json(builds.repository / REPORT_FILE, report)
        builds.give_up()
    else:
        builds.publish()
