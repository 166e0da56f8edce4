"""The instruments: inputs for perf_analyzer, memory of a process tree, the report's arithmetic."""

import base64
import json
import mmap
import os
import re
import struct
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import folder
from benchmarks.inprocess import job_of
from benchmarks.machine import Machine, MostMemory, process_memory_mb
from benchmarks.perf_analyzer import write_requests
from benchmarks.plots import PLOTS, stage_parts, write_plots
from benchmarks.report import BEGIN, END, README, README_RESULTS, TARGETS, readme_section, to_markdown
from benchmarks.workloads import BOXES_GIVEN, LARGE, Workload
from cocoer_bls.boxes import given_persons


@pytest.mark.parametrize("workload", [*BOXES_GIVEN, *LARGE], ids=lambda workload: workload.name)
def test_workloads(workload, tmp_path):
    assert workload.image.shape == (workload.height, workload.width, 3)
    assert len(given_persons(workload.boxes, workload.width, workload.height, 8)) == workload.persons
    write_requests(workload, tmp_path / "data.json")
    (request,) = json.loads((tmp_path / "data.json").read_text())["data"]
    element = base64.b64decode(request["IMAGE"]["b64"])
    assert struct.unpack("<I", element[:4])[0] == len(element) - 4
    assert cv2.imdecode(np.frombuffer(element[4:], np.uint8), cv2.IMREAD_COLOR) is not None
    assert request["PERSONS"]["shape"] == [workload.persons, 8]


def test_without_boxes_there_are_none(tmp_path):
    write_requests(Workload("x", 64, 48, None), tmp_path / "data.json")
    assert set(json.loads((tmp_path / "data.json").read_text())["data"][0]) == {"IMAGE"}


def test_memory_counts_the_children():
    code = "import time; held = b'x' * 80_000_000; print('up', flush=True); time.sleep(60)"
    before = process_memory_mb(os.getpid())
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"up\n"
        assert process_memory_mb(os.getpid()) - before > 70
        child.kill()


def test_memory_is_in_millions_of_bytes():
    """Of 100 MB, which are 95 MiB."""
    before = process_memory_mb(os.getpid())
    with mmap.mmap(-1, 100_000_000) as held:
        held.write(b"x" * 100_000_000)
        seen = process_memory_mb(os.getpid()) - before
    assert seen == pytest.approx(100, abs=2)


def test_memory_is_read_while_it_is_held():
    """What is given back before the end is seen too."""
    with MostMemory(os.getpid(), interval=0.005) as most:
        before = process_memory_mb(os.getpid())
        with mmap.mmap(-1, 100_000_000) as held:
            held.write(b"x" * 100_000_000)
            readings = most.readings
            while most.readings < readings + 2:
                time.sleep(0.001)
    assert process_memory_mb(os.getpid()) - before < 50
    assert most.mb - before > 95


TIMES = {"requests": 1.0, "queue": 0.0, "compute_input": 0.1, "compute_output": 0.1}


def load(concurrency, p50, rate):
    return {"concurrency": concurrency, "images_per_second": rate, "p50": p50, "p95": p50, "p99": p50}


REPORT = {
    "time": "now",
    "command": "run",
    "machine": Machine("Some CPU @ 2 GHz", 2, 200.0).__dict__,
    "release_ms": {"1 given": 1200.0, "4 given": 4000.0, "detected": 1400.0},
    "ceiling": {
        "1 given": {"latency_ms": 90.0, "images_per_second": 10.0},
        "4 given": {"latency_ms": 200.0, "images_per_second": 5.0},
        "detected": {"latency_ms": 175.0, "images_per_second": 6.0},
    },
    "trunk_ms": 25.0,
    "gflop": {"1 given": 8.0, "4 given": 20.0},
    "served": {
        "1 given": [load(1, 100.0, 9.0), load(4, 400.0, 9.5)],
        "4 given": [load(1, 250.0, 4.0)],
        "detected": [load(1, 200.0, 5.0)],
    },
    "persons": {"1 given": 1, "4 given": 4, "detected": 1},
    "server": {"ready_s": 8.0, "first_ms": 150.0, "median_ms": 100.0, "memory_light_mb": 1200.0},
    "int8": {
        "served": [load(1, 50.0, 20.0), load(4, 200.0, 19.0)],
        "drift": {
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
        },
    },
    "memory": {"requests": 2000, "concurrency": 4, "mb": [1400.0, 1450.0, 1479.0, 1450.0]},
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


def test_ratios():
    assert [round(value(REPORT), 3) for _, value, _, _ in TARGETS] == [
        12.0,
        16.0,
        7.0,
        0.95,
        1.0,
        0.4,
        2.0,
        1.479,
        1.02,
        8.0,
        1.5,
    ]


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
    begin, machine, empty, latency, throughput, rest, end = readme_section(REPORT).splitlines()
    assert (begin, empty, end) == (BEGIN, "", END)
    assert machine.startswith("Some CPU @ 2 GHz, 2 cores")
    assert "12.0 times as fast for one person with boxes given (100 ms), 16.0 times for four (250 ms)" in latency
    assert "9.5 images/s at concurrency 4, 95% of the same models called in-process; INT8, opt-in, 2.0" in throughput
    assert "1.48 GB of memory, 8.0 s from start to ready; 9 of 11 targets met" in rest


def test_markdown():
    text = re.sub(" +", " ", to_markdown(REPORT))
    assert "| latency, 4 persons with boxes given (times faster) | 16.00 | >= 25 | missed |" in text
    assert "| 1 given, concurrency 1 | 1200 | 90 | 100 | 100 | 100 | 9.00 | 9.00 |" in text
    assert "13.3 times (1 person), 20.0 times (4 persons) and 8.0 times (with detection)" in text
    assert "would take 125 GFLOP/s; a ResNet-50 trunk alone reaches about 80 here, a large matrix product 200." in text
    assert "| 4 given, concurrency 1 | 4000 | 200 | 250 | 250 | 250 | 4.00 | 16.00 |" in text


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
