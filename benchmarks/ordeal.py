"""A long run through everything that happens to servers: killed, overloaded, exchanged for another model.

    python -m benchmarks.ordeal --images 5000
    python -m benchmarks.ordeal --images 200 --command batch

A real server (tiny CocoER, random weights) answers ``cocoer-infer`` or ``cocoer-batch`` about small images, of which
some are none. Meanwhile its processes are killed, others fill its queue, and at last it serves other weights, which the
command has to notice (exit status 4). Then the same command is run again. In the end each image must have one answer,
all of one model, and what has none must be listed with the reason. Exit status 1 where that is not so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.ordeal_setting import PROJECT, Server, make_images, make_repository
from cocoer_client.command import DONE, MODEL_CHANGED, SOME_FAILED, USAGE

SHARD = 16
"""Images of a shard of ``cocoer-batch``."""


@dataclass(frozen=True)
class Answer:
    """What the results say of an image: which model answered, or why none did."""

    file: str
    weights: str | None
    reason: str | None


@dataclass(frozen=True)
class Event:
    """What happens when so much of the work is done."""

    at: float
    what: str
    happen: Callable[[], object]


class Ordeal:
    """A command, its images and its server.

    Args:
        work: a directory for all of it; builds in it are used again.
        name: of the command, infer or batch.
        images: how many.
        overload: seconds for which others fill the server's queue.
        limit: seconds for one run of the command.
    """

    def __init__(self, work: Path, name: str, images: int, overload: float, limit: float) -> None:
        self.total, self.limit = images, limit
        self.first, self.second = (make_repository(work, seed) for seed in (0, 1))
        self.folder, self.output = work / "images", work / name
        self.broken = make_images(self.folder, images)
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir()
        self.problems: list[str] = []
        self.server = Server(work, self.first)
        self.events = [
            Event(0.1, "Triton is killed", lambda: self.server.kill("")),
            Event(0.25, "the process of cocoer is killed", lambda: self.server.kill("cocoer")),
            Event(0.4, "others fill its queue", lambda: say(f"  they are told {dict(self.server.overload(overload))}")),
            Event(0.7, "it serves another model", lambda: self.server.exchange(self.second)),
        ]
        self.command = [sys.executable, "-m", f"cocoer_client.{name}.command", str(self.folder), "--quiet"]
        self.command += ["--url", self.server.url]

    def done(self) -> int:
        """Images that have an answer, or a reason, so far."""
        raise NotImplementedError

    def go(self) -> None:
        """Run the command as often as it takes."""
        raise NotImplementedError

    def answers(self) -> list[Answer]:
        """What the results say in the end."""
        raise NotImplementedError

    def run(self, what: str, wanted: int, *more: str, events: Sequence[Event] = ()) -> None:
        """Run the command once, and have the events happen meanwhile; another exit status than wanted is a problem."""
        started, waiting = time.monotonic(), list(events)
        say(f"{what} ...")
        process = subprocess.Popen([*self.command, *more], cwd=PROJECT)
        try:
            while process.poll() is None:
                if waiting and self.done() >= waiting[0].at * self.total:
                    event = waiting.pop(0)
                    say(f"  {self.done()} of {self.total} done: {event.what}")
                    event.happen()
                if time.monotonic() - started > self.limit:
                    raise TimeoutError(f"not over after {self.limit:g} s, with {self.done()} of {self.total} done")
                time.sleep(0.1)
        finally:
            process.kill()
        say(f"  exit status {process.returncode} after {time.monotonic() - started:.0f} s")
        if process.returncode != wanted:
            self.problems.append(f"{what} ended with exit status {process.returncode} instead of {wanted}")
        self.problems += [f"{what} was over too early: not happened: {event.what}" for event in waiting]

    @property
    def some_failed(self) -> int:
        """The exit status where all is done that can be."""
        return SOME_FAILED if self.broken else DONE

    def judge(self, weights: str) -> None:
        """Add to the problems what is wrong with the answers, which should all be of these weights."""
        answers = self.answers()
        counts = Counter(answer.file for answer in answers)
        names = [str(path) for path in sorted(self.folder.iterdir())]
        self._problem("are there more than once", [name for name, count in counts.items() if count > 1])
        self._problem("have neither an answer nor a reason", [name for name in names if name not in counts])
        others = [one.file for one in answers if one.weights not in (None, weights)]
        self._problem(f"have answers of other models than {weights}", others)
        without = {one.file: one.reason for one in answers if one.weights is None}
        self._problem("have no reason", [name for name, reason in without.items() if not reason])
        self._problem("are no images and have answers", sorted((self.broken & counts.keys()) - without.keys()))
        say(f"{len(counts) - len(without)} answered, {len(without)} listed with why; {len(self.broken)} are no images")
        for name in sorted(without.keys() - self.broken)[:5]:
            say(f"  {name}: {without[name]}")

    def _problem(self, what: str, names: Sequence[str]) -> None:
        if names:
            self.problems.append(f"{len(names)} images {what}, as {names[0]}")


class OrdealOfInfer(Ordeal):
    """The first run notices the other model; the second, with ``--resume``, has all images answered by that."""

    def done(self) -> int:
        journal = self.output / "results.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def go(self) -> None:
        self.command += ["--no-images", "--output-dir", str(self.output)]
        self.run("the first run", MODEL_CHANGED, events=self.events)
        self.run("the run with --resume", self.some_failed, "--resume", "--json", str(self.output / "last.json"))
        self.judge(self.server.weights())

    def answers(self) -> list[Answer]:
        """Results from the last run's table; reasons from the journal, where an image's last line counts."""
        table = json.loads((self.output / "last.json").read_text())
        journal = map(json.loads, (self.output / "results.jsonl").read_text().splitlines())
        last = {record["file"]: record for record in journal}
        failed = [Answer(name, None, record["error"]["message"]) for name, record in last.items() if "error" in record]
        return [Answer(record["file"], record["model"]["weights"], None) for record in table] + failed


class OrdealOfBatch(Ordeal):
    """The first run notices the other model; its directory takes none of it, and is completed by the first."""

    def done(self) -> int:
        return SHARD * len(list(self.output.glob("**/part.parquet")))

    def go(self) -> None:
        self.command += ["--output", str(self.output), "--shard-size", str(SHARD), "--workers", "1", "--json"]
        weights = self.server.weights()
        self.run("the first run", MODEL_CHANGED, events=self.events)
        self.run("the same with the other model", USAGE)
        self.server.exchange(self.first)
        self.run("the same with the first model again", self.some_failed)
        self.judge(weights)

    def answers(self) -> list[Answer]:
        import pyarrow.dataset as ds

        table = ds.dataset(self.output, partitioning="hive").to_table(columns=["path", "error", "model"])
        rows = [Answer(row["path"], (row["model"] or {}).get("weights"), row["error"]) for row in table.to_pylist()]
        lists = [json.loads(path.read_text()) for path in self.output.glob("_cocoer/left-*.json")]
        left = [Answer(one["path"], None, one["error"]) for some in lists for one in some]
        return [replace(one, file=one.file.removeprefix("file://")) for one in rows + left]


ORDEALS = {"infer": OrdealOfInfer, "batch": OrdealOfBatch}


def say(text: str) -> None:
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, metavar="N", help="how many (default: 5000)")
    parser.add_argument("--command", choices=ORDEALS, default="infer", help="which command (default: infer)")
    parser.add_argument("--work", type=Path, default=PROJECT / ".cache" / "ordeal", metavar="DIR")
    parser.add_argument("--overload", type=float, default=15, metavar="S", help="seconds of it (default: 15)")
    parser.add_argument("--limit", type=float, default=7200, metavar="S", help="seconds for one run (default: 7200)")
    args = parser.parse_args(argv)
    ordeal = ORDEALS[args.command](args.work.resolve(), args.command, args.images, args.overload, args.limit)
    try:
        ordeal.go()
    finally:
        ordeal.server.running.stop()
    for problem in ordeal.problems:
        say(f"WRONG: {problem}")
    if not ordeal.problems:
        say("each image is answered once, by one model, or listed with why it is not")
    return 1 if ordeal.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
