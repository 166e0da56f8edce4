"""What a user types, against real servers: client/infer.py, tritonserver, and how they fail."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from PIL import Image

from serving.background import ServerFailed
from serving.server import TritonServer, free_ports
from tests import golden as gold
from tests.conftest import SAMPLE, run_python
from tests.serving.test_served import check_result

INFER = "client/infer.py"


def test_image_text_and_json(opencv_server, tmp_path):
    """No boxes: OpenCV finds the astronaut."""
    options = ["--url", opencv_server.url, "--output-dir", tmp_path, "--json", tmp_path / "result.json"]
    run = run_python(INFER, SAMPLE, *options)
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["file"] == str(SAMPLE)
    (person,) = result["persons"]
    x1, y1, x2, y2 = person["head_box"]
    assert x1 < 225 < x2  # the middle of her face
    assert y1 < 115 < y2
    for text in (
        "1 person",
        "person 1",
        "final",
        "V-I",
        "head",
        "body",
        "context",
        "excluded",
        "SYNTHETIC",
        "FALLBACK",
    ):
        assert text in run.stdout
    assert person["pred"][0].split()[0] in run.stdout
    with Image.open(tmp_path / "astronaut.png") as image:
        assert image.width == 512
        assert image.height > 512  # the banner
    assert str(tmp_path / "astronaut.png") in run.stdout


def test_given_boxes_from_the_command_line(server, expected, tmp_path):
    boxes = [{"body": row[:4].tolist(), "head": row[4:].tolist()} for row in gold.person_rows(expected)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    options = ["--persons", tmp_path / "boxes.json", "--json", "-", "--output-dir", tmp_path, "--url", server.url]
    run = run_python(INFER, SAMPLE, *options)
    assert run.returncode == 0, run.stderr
    check_result(json.loads(run.stdout), expected)


def test_several_images_one_of_them_bad(opencv_server, tmp_path):
    (tmp_path / "bad.jpg").write_text("not an image")
    nobody = tmp_path / "deep" / "astronaut.jpg"
    nobody.parent.mkdir()
    Image.new("RGB", (90, 60), "navy").save(nobody)
    options = ["--url", opencv_server.url, "--output-dir", tmp_path / "out", "--json", "-"]
    run = run_python(INFER, SAMPLE, tmp_path / "bad.jpg", tmp_path / "absent.png", nobody, *options)
    assert run.returncode == 1
    results = json.loads(run.stdout)
    assert [len(result["persons"]) for result in results] == [1, 0]
    synthetic, fallback, *lines = run.stderr.splitlines()
    assert synthetic.startswith("!! SYNTHETIC WEIGHTS"), "standard output has nothing but JSON"
    assert fallback.startswith("!! FALLBACK DETECTOR")
    assert re.match(
        r"2 images, 1 person in \d+\.\d s \(\d+\.\d images/s\); 2 failed; results: .*results.jsonl", lines[0]
    )
    assert lines[1:] == [
        f"error: {tmp_path}/bad.jpg: IMAGE is not an image in JPEG, PNG, WebP or BMP format",
        f"error: {tmp_path}/absent.png: No such file or directory",
    ]
    written = ["astronaut.jpg", "astronaut.png", "results.jsonl"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written


def one_line_error(run):
    assert run.returncode != 0
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_no_server(tmp_path):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{reserved.getsockname()[1]}"
        line = one_line_error(run_python(INFER, SAMPLE, "--url", url, "--output-dir", tmp_path))
    assert line == f"error: no server at {url}; start one with: tritonserver --model-repository model_repository"


def test_timeout(opencv_server, tmp_path):
    line = one_line_error(
        run_python(INFER, SAMPLE, "--url", opencv_server.url, "--timeout", "0.05", "--output-dir", tmp_path)
    )
    assert f"no answer from {opencv_server.url} within 0.05 s" in line


def test_silent_server(tmp_path):
    """Something listens, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"127.0.0.1:{listener.getsockname()[1]}"
        line = one_line_error(run_python(INFER, SAMPLE, "--url", url, "--timeout", "2", "--output-dir", tmp_path))
    assert url in line


@pytest.mark.parametrize("content", ["", "{}", '[{"body": [1, 2, 3]}]', '[{"body": [1,2,3,4], "head": [1,2,3,"x"]}]'])
def test_bad_boxes_file(content, tmp_path):
    (tmp_path / "boxes.json").write_text(content)
    line = one_line_error(run_python(INFER, SAMPLE, "--persons", tmp_path / "boxes.json"))
    assert "boxes.json" in line


def test_impossible_boxes(opencv_server, tmp_path):
    (tmp_path / "boxes.json").write_text('[{"body": [0, 0, 600, 600], "head": [700, 700, 800, 800]}]')
    options = ["--persons", tmp_path / "boxes.json", "--url", opencv_server.url, "--output-dir", tmp_path]
    line = one_line_error(run_python(INFER, SAMPLE, *options))
    assert "PERSONS row 0: the head box [700, 700, 800, 800] has no pixel in the 512x512 image" in line


@pytest.mark.needs("own_server")
def test_model_not_ready(tmp_path):
    """A server that serves something else."""
    (tmp_path / "repository").mkdir()
    with TritonServer(tmp_path / "repository", tmp_path / "log") as empty:
        line = one_line_error(run_python(INFER, SAMPLE, "--url", empty.url, "--output-dir", tmp_path))
    assert "its model 'cocoer' is not ready" in line


def test_incomplete_repository_is_not_served(repositories, tmp_path):
    """Without its build file the BLS refuses, the server does not start, and the log names the file and the command."""
    shutil.copytree(repositories("opencv"), tmp_path / "repository", copy_function=os.link)
    (tmp_path / "repository" / "cocoer" / "1" / "build.json").unlink()
    with (
        pytest.raises(ServerFailed, match="ended with code 1"),
        TritonServer(tmp_path / "repository", tmp_path / "log"),
    ):
        pass
    log = (tmp_path / "log").read_text()
    assert "build.json not found" in log
    assert "python export/build_engines.py" in log


@pytest.mark.needs("own_server")
def test_a_repository_that_was_never_built(tmp_path):
    with pytest.raises(ServerFailed) as caught, TritonServer(tmp_path / "models", tmp_path / "log"):
        pass
    path = tmp_path / "models"
    told = f"{path} does not exist. Build it: python export/build_engines.py --repository {path}\n"
    assert (tmp_path / "log").read_text() == f"tritonserver: the model repository {told}"
    assert "ended with code 1" in str(caught.value)


@pytest.mark.needs("checkout")
def test_the_command_itself(repositories, tmp_path):
    """``tritonserver --model-repository ...``: serves, stops on SIGTERM with 0, leaves nothing behind."""
    ports = [f"{flag}={port}" for flag, port in zip(("--grpc-port", "--http-port", "--metrics-port"), free_ports(3))]
    command = [f"{sys.prefix}/bin/tritonserver", "--model-repository", str(repositories("opencv")), *ports]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
        )
    try:
        for _ in range(600):
            if b"Started Metrics Service" in (tmp_path / "log").read_bytes() or process.poll() is not None:
                break
            threading.Event().wait(0.1)
        url = f"127.0.0.1:{ports[0].split('=')[1]}"
        run = run_python(INFER, SAMPLE, "--url", url, "--output-dir", tmp_path)
        assert run.returncode == 0, run.stderr + (tmp_path / "log").read_text()[-3000:]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert "127.0.0.1" in (tmp_path / "log").read_text()
    assert not list(tmp_path.glob("cocoer-backends-*"))
    assert (tmp_path / "astronaut.png").is_file()
