"""The run of ``cocoer-infer``, as a library and as the command, with a client made up: what is asked, when it ends."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocoer_client import (
    InvalidInput,
    InvalidRequest,
    ModelChanged,
    RequestTimeout,
    ServerBusy,
    ServerError,
    ServerLost,
    ServerUnavailable,
)
from cocoer_client.drawing.formats import save
from cocoer_client.errors import SourceUnavailable
from cocoer_client.infer import command as infer
from cocoer_client.pipeline import Journal, Outcome, Run, RunOptions, Totals, images, patience, run
from cocoer_client.pipeline.stages import in_two_stages
from cocoer_client.records import Record
from cocoer_client.sources import Source, find_sources
from cocoer_client.video.frames import Frame
from tests.builds import PROJECT
from tests.fake_client import FakeClient
from tests.results import make_result

ABC = ("a.png", "b.png", "c.png")
PLAIN = RunOptions(images=False, concurrency=2)


@pytest.fixture
def sources(tmp_path):
    """Three files, whose bytes are their names'."""
    for name in ABC:
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name[:1].encode())
    return find_sources([str(tmp_path / "in")], False, tmp_path / "outputs")


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """No pauses worth waiting for."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(patience, "MAX_PAUSE", 0.01)
    monkeypatch.setattr(patience, "MAX_AFTER_LOSS", 0.01)


def faults(**of_image):
    """What a fake server does: for image ``a``, the errors of list ``a``, one after the other, before it answers."""
    left = {image.encode(): list(errors) for image, errors in of_image.items()}
    lock = threading.Lock()

    def fault(image):
        with lock:
            error = left[image].pop(0) if left.get(image) else None
        if error is not None:
            raise error

    return fault


def records_of(client, sources, options=PLAIN, **more):
    return [record for outcome in Run(client, options, **more).outcomes(sources) for record in outcome.records]


class TestOptions:
    def test_a_misspelt_one_fails_at_once(self):
        with pytest.raises(TypeError, match="min_scor"):
            RunOptions(min_scor=0.5)  # type: ignore[call-arg]

    @pytest.mark.parametrize(
        "wrong", [{"concurrency": 0}, {"frame_step": 0}, {"max_frames": 0}, {"timeout": 0}, {"retries": -1}]
    )
    def test_what_makes_no_sense(self, wrong):
        with pytest.raises(ValueError, match="must be|can't be negative"):
            RunOptions(**wrong)

    def test_the_styles_are_listed(self):
        with pytest.raises(ValueError, match="panel, release"):
            RunOptions(style="oil")  # type: ignore[arg-type]

    def test_what_was_asked_leaves_out_defaults(self):
        assert RunOptions(min_score=0.5).asked(of_video=True, drawn=False) == {}
        options = RunOptions(frame_step=3, max_frames=9, persons=[{"body": [0, 0, 9, 9]}], style="release")
        assert set(options.asked(of_video=True, drawn=True)) == {"boxes", "frame_step", "max_frames", "style"}
        assert set(options.asked(of_video=False, drawn=False)) == {"boxes"}


class TestStages:
    def test_results_come_as_they_are_there(self):
        """The first is handed out while nothing else can go on: neither its follower nor the giver of more."""
        held = threading.Event()

        def wait_for_two(number):
            assert number < 2 or held.wait(60)
            return number

        stages = in_two_stages(range(9), wait_for_two, lambda one: [one], lambda one: one, 2, 1)
        assert [next(stages), next(stages)] == [0, 1]
        held.set()
        assert list(stages) == list(range(2, 9))

    def test_drawing_takes_no_place_of_asking(self):
        """Both threads that ask have the third and fourth while the first is being drawn."""
        asked_four, seen = threading.Event(), []

        def ask(number):
            seen.append(number)
            if len(seen) == 4:
                asked_four.set()
            return number

        def draw(number):
            assert number > 0 or asked_four.wait(60)
            return number

        assert list(in_two_stages(range(4), ask, lambda one: [one], draw, 2, 1)) == list(range(4))

    def test_what_waits_is_bounded(self):
        """Nothing is drawn, so no more is asked than has room: twice two, and what waits for one of two drawers."""
        taken: list[int] = []
        drawing, enough = threading.Event(), threading.Event()

        def give():
            for number in range(1000):
                taken.append(number)
                if len(taken) == 4:
                    enough.set()
                yield number

        def draw(number):
            assert drawing.wait(60)
            return number

        stages = in_two_stages(give(), lambda one: one, lambda one: [one], draw, 2, 1)
        thread = threading.Thread(target=lambda: next(stages))
        thread.start()
        assert enough.wait(60)
        drawing.set()
        thread.join(60)
        assert len(taken) <= 2 * 2 + 2 + 1
        stages.close()

    def test_between_may_hold_back(self):
        held: list[int] = []

        def pairs(number):
            held.append(number)
            if len(held) < 2:
                return []
            both, held[:] = list(held), []
            return both

        assert list(in_two_stages(range(6), lambda x: x, pairs, lambda x: x, 3, 3)) == list(range(6))

    def test_who_waits_is_told_of_the_end(self):
        stopped = threading.Event()

        def first(number):
            assert number == 0 or stopped.wait(60)
            return number

        stages = in_two_stages(range(2), first, lambda x: [x], lambda x: x, 2, 1, stopped)
        next(stages)
        stages.close()
        assert stopped.is_set()


def fatal(image):
    if image == b"b":
        raise ZeroDivisionError("a fault of ours")


def test_a_fault_of_ours_is_one_images(sources, caplog):
    records = records_of(FakeClient(fatal), sources)
    assert ["error" in record for record in records] == [False, True, False]
    assert records[1]["error"] == {"kind": "ZeroDivisionError", "message": "a fault of ours"}
    assert "unexpected failure" in caplog.text


def test_a_result_outlives_its_image(tmp_path, sources):
    """What can't be opened here, or written, costs its annotated image alone, and is told."""
    save(Image.new("RGB", (9, 9)), Path(sources[2].name))
    (tmp_path / "outputs" / "c.png").mkdir(parents=True)  # in the annotated image's way
    options = RunOptions(output_dir=tmp_path / "outputs")
    totals = Totals(options)
    for outcome in Run(FakeClient(), options).outcomes(sources):
        totals.count(outcome)
        (record,) = outcome.records
        assert "error" not in record
        assert "picture" not in record
        assert record["persons"] == []
    assert totals.images == 3
    assert [failure.partition(": ")[0] for failure in totals.failures] == [source.name for source in sources]
    assert "there is a result, but no annotated image: the server can read this image, this" in totals.failures[0]
    assert f"no annotated image: can't write {tmp_path}/outputs/c.png: " in totals.failures[2]


def test_a_fault_in_drawing_costs_no_result(tmp_path, sources, monkeypatch, caplog):
    def broken(*args, **more):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(images, "draw", broken)
    outcomes = list(Run(FakeClient(), RunOptions(output_dir=tmp_path / "outputs")).outcomes(sources))
    assert [outcome.not_drawn for outcome in outcomes] == ["a fault of ours"] * 3
    assert all("error" not in record for outcome in outcomes for record in outcome.records)
    assert "unexpected failure to draw" in caplog.text


class TestFailures:
    def test_what_may_pass_is_asked_again(self, sources):
        """By the run, whatever the client does; each image has its answer."""
        passing = faults(
            a=[ServerUnavailable("gone")] * 5,
            b=[RequestTimeout("late"), ServerError("500")],
            c=[ServerBusy("full")] * 9,
        )
        client = FakeClient(passing)
        assert ["error" in record for record in records_of(client, sources)] == [False] * 3
        assert len(client.asked) == 6 + 3 + 10

    @pytest.mark.parametrize(("times", "kind"), [(2, None), (3, "SourceUnavailable")])
    def test_what_can_not_be_read_for_now_is_read_again(self, times, kind, sources, monkeypatch):
        """As often as is asked again, and without a thought of the server's."""
        read, left = Source.read, [SourceUnavailable("the bucket says: slow down")] * times

        def busy(source, timeout):
            if source.name.endswith("b.png") and left:
                raise left.pop()
            return read(source, timeout)

        monkeypatch.setattr(Source, "read", busy)
        work = Run(FakeClient(), RunOptions(images=False, retries=2, patience=0))
        records = [record for outcome in work.outcomes(sources) for record in outcome.records]
        assert [record.get("error", {}).get("kind") for record in records] == [None, kind, None]
        assert work.patience.lost is None

    def test_what_is_the_images_own_is_asked_once(self, sources):
        client = FakeClient(faults(a=[InvalidRequest("no image")] * 9))
        records = records_of(client, sources)
        assert records[0]["error"] == {"kind": "InvalidRequest", "message": "no image"}
        assert client.asked.count(b"a") == 1

    def test_timeouts_have_an_end(self, sources):
        client = FakeClient(faults(b=[RequestTimeout("late")] * 99))
        records = records_of(client, sources, RunOptions(images=False, retries=2))
        assert [record.get("error", {}).get("kind") for record in records] == [None, "RequestTimeout", None]
        assert client.asked.count(b"b") == 3

    @pytest.mark.parametrize("error", [ServerUnavailable("no server"), ServerBusy("no healthy upstream")])
    def test_patience_ends(self, error: ServerUnavailable, sources):
        """With what was answered before, and without asking about all the rest."""

        def lost(image):
            if image != b"a":
                raise error

        client, more = FakeClient(lost), [Source(source.name, "file", source.target) for source in sources * 50]
        work = Run(client, RunOptions(images=False, patience=0.05, concurrency=2))
        outcomes = list(work.outcomes([sources[0], *more[1:]]))
        assert work.patience.lost is error
        assert outcomes[0].error is None
        assert len(outcomes) < 12
        with pytest.raises(type(error)):
            Run(client, RunOptions(images=False, patience=0.0)).finish(sources)

    @pytest.mark.parametrize("error", [RequestTimeout("late"), ServerError("500")])
    def test_a_server_that_only_fails_is_lost_too(self, error, sources):
        """After three images in a row; one that always fails ends nothing, however long that takes."""
        more = [Source(source.name, "file", source.target) for source in sources * 50]
        work = Run(
            FakeClient(faults(a=[error] * 999, b=[error] * 999, c=[error] * 999)),
            RunOptions(images=False, patience=0, retries=1, concurrency=1),
        )
        assert len(list(work.outcomes(more))) < 10
        assert work.patience.lost is error
        work = Run(FakeClient(faults(b=[error] * 999)), RunOptions(images=False, patience=0, retries=1, concurrency=1))
        assert len(list(work.outcomes(more))) == 150
        assert work.patience.lost is None

    def test_an_image_that_the_server_dies_of_costs_itself_alone(self, sources):
        """It is asked so often as the server came back from it; whoever was on the way beside it is answered."""

        class Mortal(FakeClient):
            def __init__(self):
                super().__init__(self.live)
                self.dead_for, self.deaths = 0, 0

            def live(self, image):
                if image == b"b":
                    self.deaths += 1
                    self.dead_for = 5
                    raise ServerLost("Stub process is not healthy")
                self.be_there()

            def be_there(self):
                if self.dead_for:
                    self.dead_for -= 1
                    raise ServerUnavailable("no server")

            def model_info(self, **options):
                self.be_there()
                return super().model_info(**options)

        client = Mortal()
        more = [Source(source.name, "file", source.target) for source in sources * 9]
        work = Run(client, RunOptions(images=False, retries=2, concurrency=2))
        kinds = [outcome.records[0].get("error", {}).get("kind") for outcome in work.outcomes(more)]
        assert kinds == [None, "ServerLost", None] * 9
        assert client.deaths == 9 * 3
        assert work.patience.lost is None

    def test_what_is_left_of_a_process_is_not_taken_for_the_images_fault(self, monkeypatch):
        """It answers with an error, at once, until the server stops; its other processes are well."""
        monkeypatch.undo()
        now = [0.0]

        class Waiting(threading.Event):
            def wait(self, timeout=None):
                now[0] += timeout
                return False

        def call():
            if now[0] < 3:
                raise ServerLost("Stub process is not healthy")
            return "answer"

        assert patience.Patience(3, 60, Waiting(), lambda: "well").ask(call) == "answer"

    def test_a_server_that_dies_of_every_image_is_lost(self, sources):
        error = ServerLost("the connection was lost")
        more = [Source(source.name, "file", source.target) for source in sources * 50]
        client = FakeClient(faults(a=[error] * 999, b=[error] * 999, c=[error] * 999))
        work = Run(client, RunOptions(images=False, patience=0, retries=1, concurrency=1))
        assert len(list(work.outcomes(more))) < 10
        assert work.patience.lost is error

    def test_an_answer_renews_patience(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        one = patience.Patience(0, 10, threading.Event(), lambda: None)
        gone = [ServerUnavailable("gone")] * 2

        def call():
            now[0] += 6
            if gone:
                raise gone.pop()
            return "answer"

        assert one.ask(call) == "answer"
        gone[:] = [ServerUnavailable("gone")] * 2
        assert one.ask(call) == "answer"
        gone[:] = [ServerUnavailable("gone")] * 3
        with pytest.raises(ServerUnavailable):
            one.ask(call)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_leaves_no_record_half(self, number, sources, tmp_path):
        """It ends the run, once what is being written is; a second one ends it at once."""

        class Halves:
            text, times = "", 1

            def add(self, record):
                self.text += "("
                for _ in range(self.times):
                    signal.raise_signal(number)
                self.text += ")"

            def close(self):
                pass

        def interrupt(*_):
            raise KeyboardInterrupt

        whole, half, journal = Halves(), Halves(), Journal(tmp_path / "j")
        half.times = 2
        handler = signal.signal(number, interrupt)
        try:
            with journal, pytest.raises(KeyboardInterrupt):
                Run(FakeClient(), PLAIN, journal, [whole]).finish(sources)
            with pytest.raises(KeyboardInterrupt):
                Run(FakeClient(), PLAIN, None, [half]).finish(sources)
            assert signal.getsignal(number) is interrupt
        finally:
            signal.signal(number, handler)
        assert (whole.text, half.text) == ("()", "(")
        assert len((tmp_path / "j").read_text().splitlines()) == 1

    def test_an_end_wakes_who_waits(self, sources, monkeypatch):
        """Nobody waits for a server out of habit once the results are not wanted any more."""
        monkeypatch.setattr(patience, "FIRST_PAUSE", 3600)
        monkeypatch.setattr(patience, "MAX_PAUSE", 3600)
        outcomes = Run(FakeClient(faults(b=[ServerBusy("full")])), PLAIN).outcomes(sources)
        next(outcomes)
        outcomes.close()


class TestModelChanges:
    def test_the_answer_is_not_kept(self, sources, tmp_path):
        client = FakeClient(weights="sha256:" + 64 * "1")

        def restart(image):
            if image == b"b":
                client.model["weights"] = "sha256:" + 64 * "2"

        client.fault = restart
        journal = Journal(tmp_path / "j")
        outcomes = Run(client, RunOptions(images=False, concurrency=1), journal).outcomes(sources)
        with pytest.raises(ModelChanged, match=r"weights was sha256:1+\.\.\. and is sha256:2+\.\.\."):
            list(outcomes)
        journal.close()
        files = [json.loads(line)["file"] for line in (tmp_path / "j").read_text().splitlines()]
        assert files == [sources[0].name]

        again = Journal(tmp_path / "j", resume=True)
        assert len(records_of(client, sources, journal=again)) == 3
        again.close()
        models = {json.loads(line)["model"]["weights"] for line in (tmp_path / "j").read_text().splitlines()}
        assert models == {client.model["weights"]}
        assert again.notes == [
            "1 result is of another model (weights was sha256:11111111... and is sha256:22222222...): done again"
        ]


class TestOrdeal:
    def test_a_thousand_images_end_answered_once_by_one_model(self, tmp_path):
        """A server that is overloaded, fails, dies and comes back with another model; a run that is begun again."""
        many = [Source(f"{number:04}.png", "file", f"{number:04}") for number in range(1000)]
        for source in many:
            (tmp_path / source.name).write_bytes(source.name.encode())
        many = [Source(str(tmp_path / source.name), "file", source.target) for source in many]
        client, calls, lock = FakeClient(weights="first"), itertools.count(), threading.Lock()

        def fault(image):
            with lock:
                call = next(calls)
            if call == 500:
                client.model["weights"] = "second"
            if call % 7 == 0:
                raise [ServerBusy("full"), ServerUnavailable("gone"), ServerError("500")][call % 3]

        client.fault = fault
        options = RunOptions(images=False, concurrency=8, retries=20)
        with Journal(tmp_path / "j") as journal, pytest.raises(ModelChanged):
            Run(client, options, journal).finish(many)
        with Journal(tmp_path / "j", resume=True) as journal:
            totals = Run(client, options, journal).finish(many)
        assert (totals.images, totals.failures) == (1000, [])
        records = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
        assert [record["file"] for record in records] == [source.name for source in many]
        assert {record["model"]["weights"] for record in records} == {"second"}


class FakeVideo:
    """Three frames; breaks off before the third where ``broken``."""

    broken = False
    is_live, path, origin = False, None, 0.0

    def __init__(self, source, step, maximum):
        self.rate, self.step = 10.0, step

    def expected(self):
        return 3

    def frames(self):
        for index in range(3):
            if self.broken and index == 2:
                raise InvalidInput("it breaks off after 2 of 3 frames")
            yield Frame(index, index / 10, np.zeros((8, 8, 3), np.uint8), last=index == 2)


@pytest.fixture
def film(tmp_path, monkeypatch):
    (tmp_path / "film.mp4").write_bytes(b"x")
    monkeypatch.setattr(run, "Video", FakeVideo)
    monkeypatch.setattr(FakeVideo, "broken", False)
    return Source(str(tmp_path / "film.mp4"), "video", Path("film"))


class TestVideos:
    def test_one_that_breaks_off_is_not_done(self, film, tmp_path, monkeypatch):
        monkeypatch.setattr(FakeVideo, "broken", True)
        with Journal(tmp_path / "j") as journal:
            outcomes = list(Run(FakeClient(), PLAIN, journal).outcomes([film]))
        assert [outcome.breaks_off for outcome in outcomes] == [False, False, True]
        totals = Totals()
        for outcome in outcomes:
            totals.count(outcome)
        assert totals.failures == [f"{film.name}: it breaks off after 2 of 3 frames"]
        monkeypatch.setattr(FakeVideo, "broken", False)
        with Journal(tmp_path / "j", resume=True) as journal:
            client = FakeClient()
            assert len(records_of(client, [film], journal=journal)) == 3
            assert len(client.asked) == 3
        with Journal(tmp_path / "j", resume=True) as journal:
            assert len(records_of(client, [film], journal=journal)) == 3
            assert len(client.asked) == 3, "done"

    def test_a_step_sees_frames_in_order(self, film):
        """And may hold them back, and change what is written of them."""
        held: list[Outcome] = []

        def number(outcome: Outcome) -> list[Outcome]:
            held.append(outcome)
            if not outcome.records[0]["last"]:
                return []
            for index, one in enumerate(held):
                one.records[0]["seen"] = index
            return held

        records = records_of(FakeClient(), [film], RunOptions(images=False, concurrency=3), step=number)
        assert [(record["frame"], record["seen"]) for record in records] == [(0, 0), (1, 1), (2, 2)]

    def test_the_film_after_a_broken_one_is_its_own(self, film, tmp_path, monkeypatch):
        """An annotated video ends where its film breaks off."""
        monkeypatch.setattr(FakeVideo, "broken", True)
        added: dict[str, list[int]] = {}

        class FakeFile:
            def __init__(self, path, frame_s, sound_of, origin):
                self.name = path.name

            def add(self, image, time_s):
                added.setdefault(self.name, []).append(image.width)

            def finish(self):
                added[self.name].append(-1)

        monkeypatch.setattr(images, "VideoFile", FakeFile)
        other = Source(str(tmp_path / "other.mp4"), "video", Path("other"))
        records_of(FakeClient(), [film, other], RunOptions(output_dir=tmp_path / "out"))
        assert {name: len(frames) for name, frames in added.items()} == {"film.mp4": 3, "other.mp4": 3}
        assert all(frames[-1] == -1 for frames in added.values())

    def test_a_video_that_can_not_be_written_costs_itself(self, film, tmp_path, monkeypatch):
        """Told once; each frame's result is kept, and says nothing of it; the next video is written."""
        written = []

        class FakeFile:
            def __init__(self, path, frame_s, sound_of, origin):
                self.path = path
                if path.name == "film.mp4":
                    raise OSError(13, "Permission denied", str(path))

            def add(self, image, time_s):
                written.append(self.path.name)

            finish = abandon = lambda self: None

        monkeypatch.setattr(images, "VideoFile", FakeFile)
        (tmp_path / "other.mp4").write_bytes(b"x")
        other = Source(str(tmp_path / "other.mp4"), "video", Path("other"))
        outcomes = list(Run(FakeClient(), RunOptions(output_dir=tmp_path / "out")).outcomes([film, other]))
        refused = f"can't write {tmp_path}/out/film.mp4: Permission denied"
        assert [outcome.not_drawn for outcome in outcomes] == [refused, "", "", "", "", ""]
        assert ["picture" in outcome.records[0] for outcome in outcomes] == [False] * 3 + [True] * 3
        assert written == ["other.mp4"] * 3


class ListSink:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        pass


def test_a_sink_gets_what_was_done_before_too(sources, tmp_path):
    first, second = ListSink(), ListSink()
    with Journal(tmp_path / "j") as journal:
        totals = Run(FakeClient(), PLAIN, journal, [first]).finish(sources)
    assert (totals.images, totals.skipped) == (3, 0)
    with Journal(tmp_path / "j", resume=True) as journal:
        totals = Run(FakeClient(synthetic=False), PLAIN, journal, [second]).finish(sources)
    assert (totals.images, totals.skipped) == (0, 3)
    assert first.records == second.records


class Command:
    """``cocoer-infer`` in this process, with a client made up."""

    def __init__(self, monkeypatch, client):
        self.client = client
        monkeypatch.setattr(infer, "CocoerClient", lambda *args, **more: self)
        self.check_ready = lambda: None

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    def __getattr__(self, name):
        return getattr(self.client, name)

    def __call__(self, *arguments):
        return infer.main([str(argument) for argument in arguments])


@pytest.fixture
def command(monkeypatch, tmp_path, sources):
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, FakeClient())


class TestCommand:
    def test_random_weights_then_official_ones(self, command, capsys):
        """README's own path: --resume does not keep the labels of random weights."""
        command.client = FakeClient(weights="sha256:" + 64 * "0", synthetic=True)
        assert command("in", "--no-images", "--csv", "t.csv") == 0
        capsys.readouterr()
        command.client = FakeClient(weights="sha256:" + 64 * "f")
        assert command("in", "--no-images", "--csv", "t.csv", "--resume") == 0
        told = capsys.readouterr()
        assert (
            "3 results are of another model (weights was sha256:00000000... and is sha256:ffffffff...): done again"
            in told.err
        )
        assert len(command.client.asked) == 3
        assert "SYNTHETIC" not in Path("t.csv").read_text() + told.out
        lines = Path("outputs/results.jsonl").read_text().splitlines()
        assert [json.loads(line)["model"]["synthetic"] for line in lines] == [False] * 3
        assert len(Path("outputs/results.jsonl.previous").read_text().splitlines()) == 3

    def test_old_results_keep_their_warnings(self, command, capsys):
        command.client = FakeClient(synthetic=True, detector="opencv-haar")
        command("in", "--no-images")
        capsys.readouterr()
        assert command("in", "--no-images", "--resume") == 0
        told = capsys.readouterr().err
        assert told.count("!! SYNTHETIC WEIGHTS") == 1
        assert told.count("!! FALLBACK DETECTOR") == 1
        assert "nothing left to do; 3 done before" in told
        command("in/a.png", "--no-images", "--resume")
        assert "!! SYNTHETIC WEIGHTS" in capsys.readouterr().err

    def test_a_model_that_changes(self, command, capsys):
        def restart(image):
            if image == b"b":
                command.client.model["precision"] = "fp16"

        command.client.fault = restart
        assert command("in", "--no-images", "--concurrency", 1) == 4
        error = capsys.readouterr().err.splitlines()[-1]
        assert error == (
            "error: stopped, since the server's model has changed: precision was fp32 and is fp16; what is done is "
            "kept: the same command with --resume does all anew, with the model that answers now"
        )
        command.client.fault = lambda image: None
        assert command("in", "--no-images", "--resume") == 0
        assert {
            json.loads(line)["model"]["precision"] for line in Path("outputs/results.jsonl").read_text().splitlines()
        } == {"fp16"}

    def test_an_option_that_the_server_refuses(self, command, capsys):
        """Said once, before the first image; an earlier table stays as it was."""

        def refuse(**options):
            raise InvalidRequest("final_threshold must be from 0 to 1, got 7")

        command.client.model_info = refuse
        Path("t.csv").write_text("an earlier table")
        assert command("in", "--final-threshold", 7, "--csv", "t.csv") == 2
        assert command.client.asked == []
        assert capsys.readouterr().err == "error: final_threshold must be from 0 to 1, got 7\n"
        assert Path("t.csv").read_text() == "an earlier table"

    def test_failures_on_resume(self, command, capsys):
        """Those that may pass are asked again, refused images are not, unless that is asked for."""
        command.client.fault = faults(a=[InvalidRequest("no image")] * 9, b=[ServerError("500")] * 2)
        assert command("in", "--no-images", "--retries", 1) == 1
        error = capsys.readouterr().err
        assert "2 failed" in error
        assert "error: in/a.png: no image\nerror: in/b.png: 500\n" in error
        asked = len(command.client.asked)
        assert command("in", "--no-images", "--resume") == 1
        assert command.client.asked[asked:] == [b"b"]
        error = capsys.readouterr().err
        assert "1 result is missing for a reason that may have passed: done again" in error
        assert "1 done before; 1 refused before (--retry-failed asks again)" in error
        assert "error: in/a.png: no image\n" in error
        lines = Path("outputs/results.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["file"] for line in lines) == ["in/a.png", "in/b.png", "in/c.png"], "once each"
        assert command("in", "--no-images", "--resume") == 1
        assert "nothing left to do; 2 done before; 1 refused before" in capsys.readouterr().err
        command.client.fault = lambda image: None
        assert command("in", "--no-images", "--resume", "--retry-failed") == 0

    def test_lost(self, command, capsys):
        def lost(image):
            if image != b"a":
                raise ServerUnavailable("no server at x")

        command.client.fault = lost
        assert command("in", "--no-images", "--concurrency", 1, "--patience", 0.01) == 3
        error = capsys.readouterr().err
        assert "stopped, since the server is gone; what is done is kept: the same command with --resume" in error

    def test_a_name_that_is_not_utf8(self, command, capsys):
        os.rename(b"in/b.png", b"in/b\xff\r=.png")
        assert command("in", "--no-images", "--csv", "t.csv", "--json", "t.json") == 0
        assert "in/b\\xff\\x0d=.png  nobody found" in capsys.readouterr().out
        assert [record["file"] for record in json.loads(Path("t.json").read_text())][1] == os.fsdecode(
            b"in/b\xff\r=.png"
        )
        assert Path("t.csv").read_bytes().count(b"\r") == 0
        assert command("in", "--no-images", "--resume") == 0
        assert "nothing left to do; 3 done before" in capsys.readouterr().err

    def test_a_page_of_a_name_that_is_not_utf8(self, command, capsys):
        Image.new("RGB", (9, 9)).save("in/a.png")
        os.rename(b"in/a.png", b"in/\xff.png")
        assert command(os.fsdecode(b"in/\xff.png"), "--no-images", "--explain", "why.html") == 0
        assert "\\xff.png" in Path("why.html").read_text()

    def test_escape_sequences_in_messages(self, command, capsys):
        command.client.fault = faults(a=[InvalidRequest("\x1b[2Jgone")])
        assert command("in", "--no-images") == 1
        assert "error: in/a.png: \\x1b[2Jgone\n" in capsys.readouterr().err

    @pytest.mark.parametrize("target", ["in/a.png/t", "in"])
    def test_a_table_that_can_not_be_written(self, command, target, capsys):
        for option in ("--csv", "--json", "--jsonl", "--parquet"):
            assert command("in", "--no-images", option, target) == 2
        assert command.client.asked == []
        assert capsys.readouterr().err.count(f" {target}: " if "/" in target else " in is a directory; ") == 4

    def test_a_full_disk(self, command, capsys):
        """/dev/full is one."""
        assert command("in", "--no-images", "--csv", "/dev/full") == 1
        error = capsys.readouterr().err
        full = "can't write /dev/full: No space left on device; make room, and give the same command with --resume"
        assert full in error
        assert len(Path("outputs/results.jsonl").read_text().splitlines()) == 3
        assert command("in", "--no-images", "--jsonl", "/dev/full") == 1
        error = capsys.readouterr().err
        assert f"stopped: {full}; what is done is kept\n" in error
        assert Path("/dev/full").is_char_device()

    def test_terminated(self, command):
        """As by Ctrl-C, nothing is left half."""
        command.client.fault = lambda image: os.kill(os.getpid(), signal.SIGTERM) if image == b"b" else None
        assert command("in", "--no-images", "--csv", "t.csv", "--concurrency", 1) == 143
        assert sorted(path.name for path in Path().iterdir()) == ["in", "outputs", "t.csv"]


READER_GONE = """
import sys
from cocoer_client.infer import command
from tests.fake_client import FakeClient
from tests.unit.test_client_runs import Command
class Patch:
    setattr = staticmethod(setattr)
raise SystemExit(Command(Patch, FakeClient())("in", "--no-images", *sys.argv[1:]))
"""


@pytest.mark.parametrize("output", [[], ["--jsonl", "-"], ["--csv", "-"], ["--json", "-"]], ids=" ".join)
def test_a_reader_that_has_seen_enough(output, sources, tmp_path):
    """``| head``: quiet, with the status of a program that the pipe's signal ends; the journal is kept."""
    script = tmp_path / "script.py"
    script.write_text(READER_GONE)
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT}/client", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, script, *output], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(60), "Broken pipe" in errors, "Traceback" in errors) == (141, False, False), errors


def test_make_result_is_one():
    """What the fake client answers with has the model that runs compare."""
    assert FakeClient().infer_raw(b"")["model"] == make_result((9, 9), [])["model"]
