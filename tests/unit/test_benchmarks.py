"""The instruments: inputs for perf_analyzer, memory of a process tree, the report's arithmetic."""

import base64
import doctest
import json
import os
import re
import struct
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import figures, folder, inprocess, machine, run, schedules, served, turns
from benchmarks.bench import Bench
from benchmarks.figures import TARGETS
from benchmarks.inprocess import job_of
from benchmarks.machine import Machine, MostMemory, process_memory_mb
from benchmarks.perf_analyzer import read_export, write_requests
from benchmarks.plots import PLOTS, stage_parts, write_plots
from benchmarks.report import BEGIN, END, README, README_RESULTS, readme_section, to_markdown
from benchmarks.schedules import Schedules
from benchmarks.turns import percentile, take_turns
from benchmarks.workloads import BOXES_GIVEN, HEAVY, LARGE, Workload
from cocoer.network.model import CocoER
from cocoer_bls.boxes import given_persons


@pytest.mark.parametrize("workload", [*BOXES_GIVEN, *LARGE, *HEAVY], ids=lambda workload: workload.name)
def test_workloads(workload, tmp_path):
    assert workload.image.shape == (workload.height, workload.width, 3)
    assert len(given_persons(workload.boxes, workload.width, workload.height, 128)) == workload.persons
    write_requests(workload, tmp_path / "data.json")
    (request,) = json.loads((tmp_path / "data.json").read_text())["data"]
    element = base64.b64decode(request["IMAGE"]["b64"])
    assert struct.unpack("<I", element[:4])[0] == len(element) - 4
    assert cv2.imdecode(np.frombuffer(element[4:], np.uint8), cv2.IMREAD_COLOR) is not None
    assert request["PERSONS"]["shape"] == [workload.persons, 8]


def test_without_boxes_there_are_none(tmp_path):
    write_requests(Workload("x", 64, 48, None), tmp_path / "data.json")
    assert set(json.loads((tmp_path / "data.json").read_text())["data"][0]) == {"IMAGE"}


HOLDER = """
import mmap, sys
held = None
for line in sys.stdin:
    if held:
        held.close()
    held = mmap.mmap(-1, int(line))
    held.write(b"x" * int(line))
    print("done", flush=True)
"""
"""A process that holds as many bytes as it is told, instead of those before; it first says so when it does."""


@pytest.fixture
def holding():
    """Has a process hold so many bytes; and its parent, to which nothing else belongs, by pid."""
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDER!r}])"
    command = [sys.executable, "-c", nested]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:

        def hold(count):
            parent.stdin.write(f"{count}\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "done\n"

        hold(1)
        yield hold, parent.pid
        parent.stdin.close()


def test_memory_is_in_millions_of_bytes(holding):
    """Of 100 MB, which are 95 MiB, in a process of a process."""
    hold, pid = holding
    before = process_memory_mb(pid)
    hold(100_000_000)
    assert process_memory_mb(pid) - before == pytest.approx(100, abs=2)


def test_memory_is_read_while_it_is_held(holding):
    """What is given back before the end is seen too."""
    hold, pid = holding
    with MostMemory(pid, interval=0.005) as most:
        before = process_memory_mb(pid)
        hold(100_000_000)
        readings = most.readings
        while most.readings < readings + 2:
            time.sleep(0.001)
        hold(1)
    assert process_memory_mb(pid) - before < 50
    assert most.mb - before > 95


TIMES = {"requests": 1.0, "queue": 0.0, "compute_input": 0.1, "compute_output": 0.1}


def loads(p50s, rates, requests=20):
    """One for each turn, whose last request takes ten times as long as its others."""
    return [
        {"p50": p50, "images_per_second": rate, "latencies_ms": [p50] * (requests - 1) + [10 * p50]}
        for p50, rate in zip(p50s, rates)
    ]


DRIFT = {
    "recognition": {
        "persons": 4,
        "held_out": True,
        "max_change": 0.1,
        "mean_change": 0.01,
        "label_agreement": 0.99,
        "same_labels": 0.75,
        "same_order": 1.0,
    },
    "detection": {"face_detector": {"before": 3, "after": 4, "agreement": 0.75}},
}
REPORT = {
    "time": "now",
    "command": "run",
    "turns": 2,
    "machine": Machine("Some CPU @ 2 GHz", 2, 200.0).__dict__,
    "release_ms": {"1 given": [1200.0, 2600.0], "4 given": [4000.0, 8000.0], "detected": [1360.0, 2880.0]},
    "port_ms": {"1 given": [300.0, 500.0], "4 given": [800.0, 1000.0], "detected": [400.0, 600.0]},
    "modules_ms": {"1 given": [150.0, 250.0], "4 given": [400.0, 500.0], "detected": [250.0, 350.0]},
    "in_process": {
        "1 given": {
            "1": {"in turn": [95.0, 185.0], "side by side": [90.0, 180.0]},
            "4": {"in turn": [320.0, 1000.0], "one batch": [400.0, 800.0]},
        },
        "4 given": {"1": {"in turn": [200.0, 400.0]}, "4": {"in turn": [800.0, 1600.0], "one batch": [800.0, 1600.0]}},
        "detected": {"1": {"in turn": [175.0, 350.0]}, "4": {"in turn": [700.0, 1400.0], "one batch": [700.0, 1400.0]}},
    },
    "trunk_ms": [25.0, 50.0],
    "sgemm_gflops": [200.0, 100.0],
    "gflop": {"1 given": 30.0, "4 given": 90.0, "trunk": 8.0},
    "served": {
        "1 given": {"1": loads([100.0, 200.0], [10.0, 5.0], 250), "4": loads([400.0, 800.0], [9.5, 4.75])},
        "4 given": {"1": loads([250.0, 500.0], [4.0, 2.0])},
        "detected": {"1": loads([200.0, 400.0], [5.0, 2.5], 50)},
    },
    "persons": {"1 given": 1, "4 given": 4, "detected": 1},
    "precisions": {"INT8": {"1": loads([50.0, 100.0], [20.0, 10.0]), "4": loads([210.0, 400.0], [18.05, 10.45])}},
    "drift": {"INT8": DRIFT},
    "server": {
        "ready_s": [8.0, 9.0, 8.5],
        "first_ms": [150.0, 140.0, 130.0],
        "median_ms": [100.0, 100.0, 100.0],
        "memory_mb": [1200.0, 1210.0, 1190.0],
    },
    "memory": {
        "kinds": {"1 given": 1400.0, "128 given": 2200.0},
        "in_flight": {"1 given": 4, "128 given": 2},
        "endurance_mb": [2000.0, 2040.0, 2010.0],
        "requests": 2048,
        "each": 12,
        "readings": 99,
    },
    "stages": {
        "1 given": {
            "client_ms": 100.0,
            "stages": {"decode": 1.0, "windows": 2.0, "recognition": 90.0, "result": 1.0},
            "models": {
                "recognition": {**TIMES, "compute_infer": 89.0},
                "head_encoder": {**TIMES, "compute_infer": 40.0},
                "body_encoder": {**TIMES, "compute_infer": 42.0},
                "vi_head": {**TIMES, "compute_infer": 45.0},
            },
        }
    },
}


def test_figures():
    """A value for each turn, and ratios of the same turn."""
    assert [[round(value, 3) for value in values(REPORT)] for _, values, _, _ in TARGETS] == [
        [12.0, 13.0],
        [16.0, 16.0],
        [6.8, 7.2],
        [0.95, 0.95],
        [1.0, 1.0],
        [1.8, 1.8],
        [1.9, 2.2],
        [2.2],
        [1.02],
        [8.0, 9.0, 8.5],
        [1.5, 1.4, 1.3],
    ]


def rows_of(text):
    return [re.split(r" *\| *", line)[1:-1] for line in text.splitlines() if line.startswith("|")]


def test_targets_within_the_range_are_neither_met_nor_missed():
    verdicts = {row[0].split(",")[0]: row[1:] for row in rows_of(to_markdown(REPORT)) if row[2:3] and "=" in row[2]}
    assert verdicts["latency"] == ["16.00 (16.00 to 16.00)", ">= 25", "missed"]
    assert verdicts["full pipeline with SCRFD detection"] == ["7.00 (6.80 to 7.20)", ">= 7", "within noise"]
    assert verdicts["INT8 (opt-in): throughput with 4 requests in flight"][-1] == "within noise"
    assert verdicts["start to ready"] == ["8.50 (8.00 to 9.00)", "<= 12", "met"]


def test_the_server_is_compared_with_the_best_schedule():
    """The one that is best over all turns, with as many requests in flight, batches included."""
    name, times = figures.in_process_ms(REPORT, "1 given", 4)
    assert (name, times) == ("one batch", [400.0, 800.0])
    assert figures.in_process_ms(REPORT, "1 given", 1)[0] == "side by side"
    text = to_markdown(REPORT)
    assert next(row[1] for row in rows_of(text) if row[0] == "one batch") == "7.50 (5.00 to 10.00)"
    assert "limit of these models" not in text
    assert "it is no limit" in text


def test_a_trunks_rate_is_its_own_operations_by_its_own_time():
    assert figures.trunk_rate(REPORT) == [320.0, 160.0]
    assert "a ResNet-50 trunk alone (8.0 GFLOP) reaches 240 (160 to 320) here" in to_markdown(REPORT)


def test_a_trunk_has_the_operations_of_one_resnet_50():
    """4.1 GMAC, as everybody counts them; the 2,048-wide last layers' classifier is not in it."""
    with torch.device("meta"):
        model = CocoER()
    with torch.device("meta"):
        assert inprocess.trunk_gflop(model) == pytest.approx(8.2, abs=0.3)


def test_percentiles_are_shown_where_they_are_more_than_a_maximum():
    """500 requests: p99 is the fifth from the end; 100: p95."""
    rows = {tuple(row[:2]): row[2:] for row in rows_of(to_markdown(REPORT)) if len(row) == 8}
    assert rows["1 given", "1"][:4] == ["500", "150 (100 to 200)", "200", "200"]
    assert rows["detected", "1"][:4] == ["100", "300 (200 to 400)", "400", ""]
    assert rows["4 given", "1"][:4] == ["40", "375 (250 to 500)", "", ""]


def test_a_whole_run_has_the_requests_of_a_p99():
    assert run.FULL.turns * run.FULL.many >= 500


@pytest.mark.parametrize("module", [turns, figures, schedules], ids=lambda module: module.__name__)
def test_examples(module):
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted


def test_what_is_compared_is_measured_with_as_many_in_flight():
    """Precisions and the server; the server and the schedules; each next to what it is compared with."""
    bench = Bench.__new__(Bench)  # nothing is loaded, and no server runs
    bench.servers, bench.plan, bench.detecting = (
        {"FP32": "a", "INT8": "b"},
        run.FULL,
        Workload("detected", 640, 480, None),
    )
    bench.release = bench.port = bench.modules = bench.detection = bench.trunk = None
    bench.schedules = Schedules.__new__(Schedules)
    paths = list(bench.ways())
    for concurrency in ("1", "4", "8"):
        assert ("served", "1 given", concurrency) in paths
        assert ("precisions", "INT8", concurrency) in paths
    for name in ("1 given", "4 given", "detected"):
        alone = [path for path in paths if path[1:2] == (name,) and path[2:3] != ("4",) and path[2:3] != ("8",)]
        assert {path[0] for path in alone} == {"served", "release_ms", "port_ms", "modules_ms", "in_process"}
        indices = [paths.index(path) for path in alone]
        assert max(indices) - min(indices) == len(indices) - 1
        beside = {path[3] for path in paths if path[:3] == ("in_process", name, "4")}
        assert beside >= {"one batch", "one on each core", "a batch on each core"}


def test_a_percentile_needs_five_requests_beyond_it():
    """499 requests have four beyond their p99; of 24, it would be their maximum."""
    assert [percentile(range(1, count + 1), 99) for count in (24, 499, 500, 1000)] == [None, None, 495, 990]
    assert [percentile(range(1, count + 1), 95) for count in (99, 100)] == [None, 95]


def test_what_each_step_gains():
    table = rows_of(to_markdown(REPORT))
    start = next(index for index, row in enumerate(table) if row[0] == "the release's way")
    assert [row[1] for row in table[start : start + 5]] == [
        "1900 (1200 to 2600)",
        "400 (300 to 500)",
        "200 (150 to 250)",
        "135 (90 to 180)",
        "150 (100 to 200)",
    ]
    assert table[start + 1][0].startswith("plain PyTorch port")


def test_precisions_stand_side_by_side():
    """With as many requests in flight, and the gain of the same turn."""
    table = rows_of(to_markdown(REPORT))
    start = next(index for index, row in enumerate(table) if row[0] == "FP32")
    assert [row[:2] + row[-2:] for row in table[start : start + 4]] == [
        ["FP32", "1", "7.50 (5.00 to 10.00)", ""],
        ["INT8", "1", "15.00 (10.00 to 20.00)", "2.00 (2.00 to 2.00)"],
        ["FP32", "4", "7.12 (4.75 to 9.50)", ""],
        ["INT8", "4", "14.25 (10.45 to 18.05)", "2.05 (1.90 to 2.20)"],
    ]


def test_more_precisions_than_one():
    """Each beside FP32; of one that this machine can't have, why."""
    precisions = {**REPORT["precisions"], "bf16": {"4": loads([200.0, 400.0], [19.0, 9.5])}}
    text = to_markdown({**REPORT, "precisions": precisions, "left_out": {"bf16": "no such CPU"}})
    (row,) = [row for row in rows_of(text) if row[0] == "bf16"]
    assert row == ["bf16", "4", "300 (200 to 400)", "", "", "14.25 (9.50 to 19.00)", "2.00 (2.00 to 2.00)"]
    assert "bf16 was not measured here: no such CPU." in text


def test_memory_is_shown_by_kind_of_request():
    text = to_markdown(REPORT)
    assert ["128 given", "2", "2200"] in rows_of(text)
    assert "in each eighth of 2048 requests with 1 given: 2000, 2040, 2010 MB" in text


def test_what_was_not_measured_is_said():
    """As of a former report."""
    less = {**REPORT, "note": "Of old.", "memory": {"kinds": {}, "endurance_mb": []}, "port_ms": {}, "modules_ms": {}}
    less["in_process"] = {"1 given": {"1": {"in turn": [94.0]}}}
    text, section = to_markdown(less), readme_section(less)
    assert text.count("not measured") == 3
    assert "Of old." in text
    assert "Of old." in section
    assert "GB of memory" not in section
    assert "in-process schedule's;" not in section


def test_turns_go_back_and_forth():
    """A B C, C B A, A B C: no way is always first, or always after the same one."""
    calls = []
    ways = {("x", name): lambda name=name: calls.append(name) or len(calls) for name in "ABC"}
    found = take_turns(ways, 3, lambda text: None)
    assert "".join(calls) == "ABCCBAABC"
    assert found == {"x": {"A": [1, 6, 7], "B": [2, 5, 8], "C": [3, 4, 9]}}


def test_every_kind_of_request_is_sent_while_memory_is_read(monkeypatch):
    """What a kind takes and gives back before its end is seen, and is that kind's; the endurance run has 8 parts."""
    sent, held, watches = [], [100.0], []

    def watch(root):
        watches.append(MostMemory(root, interval=0.001))
        return watches[-1]

    def send(workload, count):
        sent.append((workload.name, count))
        if workload.name == "8 given":
            held[0], readings = 900.0, watches[-1].readings
            while watches[-1].readings < readings + 2:
                time.sleep(0.001)
            held[0] = 200.0

    monkeypatch.setattr(machine, "process_memory_mb", lambda root: held[0])
    monkeypatch.setattr(served, "MostMemory", watch)
    found = served.most_memory(1, send, [BOXES_GIVEN[0], BOXES_GIVEN[3]], each=5, endurance=80)
    assert found["kinds"] == {"1 given": 100.0, "8 given": 900.0}
    assert found["endurance_mb"] == [200.0] * 8
    assert found["in_flight"] == {"1 given": 4, "8 given": 4}
    assert served.at_a_time(HEAVY[1]) == 2
    assert sent == [("1 given", 5), ("8 given", 5), *[("1 given", 10)] * 8]


def test_load_is_read_from_its_requests_times(tmp_path):
    """Of perf_analyzer's export, whose strings hold a photo's bytes as they are."""
    request = {"timestamp": 1_000_000_000, "response_timestamps": [1_100_000_000], "request_inputs": {"IMAGE": "BYTES"}}
    later = {**request, "timestamp": 1_100_000_000, "response_timestamps": [1_400_000_000]}
    last = {**request, "timestamp": 1_200_000_000, "response_timestamps": [1_500_000_000]}
    text = json.dumps({"experiments": [{"requests": [request, later, last]}]})
    (tmp_path / "export.json").write_bytes(text.encode().replace(b"BYTES", b"\xff\xd8\x01\n"))
    load = read_export(tmp_path / "export.json")
    assert load.latencies_ms == [100.0, 300.0, 300.0]
    assert (load.p50, load.images_per_second) == (300.0, 6.0)


def test_stages_add_up():
    parts = stage_parts(REPORT["stages"]["1 given"])
    assert parts["gRPC, queue, copies"] == pytest.approx(6.0)
    assert sum(parts.values()) == pytest.approx(100.0)


def test_plots(tmp_path):
    write_plots(REPORT, tmp_path)
    for name in PLOTS:
        assert cv2.imread(str(tmp_path / f"{name}.png")).std() > 5
    assert len(list(tmp_path.iterdir())) == len(PLOTS)


def test_readme_shows_the_committed_report():
    text = README.read_text()
    shown = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert shown == readme_section(json.loads((README_RESULTS / "report.json").read_text()))


def test_readme_section():
    begin, where, empty, latency, throughput, rest, end = readme_section(REPORT).splitlines()
    assert (begin, empty, end) == (BEGIN, "", END)
    assert where.startswith("Some CPU @ 2 GHz, 2 cores")
    assert "12.5 (12.0 to 13.0) times as fast for one person with boxes given (150 ms)" in latency
    assert "7.1 (4.8 to 9.5) images/s with 4 requests in flight, 95% of the best in-process schedule's" in throughput
    assert "INT8, opt-in, 2.0 (1.9 to 2.2) times that" in throughput
    assert "2.20 GB of memory at most, 8.5 s from start to ready" in rest
    assert "Of 11 targets: 7 met, 2 missed, 2 within noise" in rest


def test_machine_slug():
    assert Machine("AMD EPYC 9B14 (96-Core)", 2, 1.0).slug == "amd-epyc-9b14-96-core-2-cores"


def test_images_are_decoded_as_they_are_served():
    workload = BOXES_GIVEN[0]
    assert job_of(workload).image.shape == (workload.height, workload.width, 3)


def way(cpu_ms, *rates):
    rounds = [{"images_per_second": rate} for rate in rates]
    return {"images_per_second": rates[0], "cpu_ms": cpu_ms, "persons": 6, "rounds": rounds}


def test_report_of_annotated_images():
    """Rates against the rate without, for each place and folder, and a verdict on each."""
    slow = {"none": way(60, 9.5, 9.4), "JPEG, as the input": way(81.05, 8.0, 7.9, 8.1)}
    fast = {"none": way(60, 10.0), "JPEG, as the input": way(61, 9.5)}
    measured = {
        "shared": {"12 megapixels": {"images": 4, "ways": slow}},
        "apart": {"1 megapixel": {"images": 3, "ways": fast}},
    }
    machine = {"cpu": "Some CPU", "cores": 2}
    text = folder.to_markdown({"time": "now", "command": "it", "machine": machine, "repeats": 3, "measured": measured})
    rows = [re.split(r" *\| *", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert ["12 megapixels", "JPEG, as the input", "8.00 (7.90 to 8.10)", "84%, missed", "81", "1.5", "91%"] in rows
    assert ["1 megapixel", "JPEG, as the input", "9.50 (9.50 to 9.50)", "95%, met", "61", "2.0", ""] in rows
    assert ["1 megapixel", "none", "10.00 (10.00 to 10.00)", "", "60", "2.0", ""] in rows


def test_photos_of_the_folder_are_photos(tmp_path):
    """Of their size, all different, about as large as a camera's: a tenth to a third of a byte per pixel."""
    folder.write_photos(tmp_path / "photos", folder.Folder("small", 1152, 864, 11))
    photos = sorted((tmp_path / "photos").iterdir())
    assert len({path.read_bytes() for path in photos}) == 11
    for path in photos:
        with Image.open(path) as photo:
            assert (photo.format, photo.size) == ("JPEG", (1152, 864))
        assert 0.1 < path.stat().st_size / (1152 * 864) < 1 / 3


def test_what_is_started_on_cores_stays_there():
    core = min(os.sched_getaffinity(0))
    with folder.on_cores({core}):
        code = "import os; print(os.sched_getaffinity(0))"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == f"{{{core}}}\n"
