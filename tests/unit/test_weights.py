"""Reading checkpoint files: what is accepted, what is refused, and what the refusal says."""

import doctest
import io
import logging
import os
import pickle
import re
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cocoer import files
from cocoer.checkpoints import loader, reading
from cocoer.checkpoints.keys import CLIP_PREFIX, UNUSED_GWT, CheckpointError, account, manifest, network_keys
from cocoer.checkpoints.loader import load_checkpoint
from cocoer.checkpoints.reading import is_torchscript, read_pickle, state_dict_of
from cocoer.checkpoints.synthetic import write_checkpoints
from cocoer.network.architecture import RELEASE, TINY
from cocoer.network.model import CocoER
from export import build_engines

EXPECTED = {"W.weight": [2, 2], "ln_after.bias": [3], "decoder_head.0.norm1.bias": [4], "bn.num_batches_tracked": []}


def state(**changes):
    tensors = {key: torch.zeros(shape) for key, shape in EXPECTED.items()}
    tensors.update(changes)
    return {key: tensor for key, tensor in tensors.items() if tensor is not None}


def test_every_key_has_a_place():
    report = account("GWT.pth", state(), EXPECTED)
    assert report.used == ["W.weight", "ln_after.bias", "bn.num_batches_tracked"]
    assert report.unused == ["decoder_head.0.norm1.bias"]
    report.raise_for_problems()


def test_what_is_never_used_may_be_absent():
    account(
        "GWT.pth", state(**{"decoder_head.0.norm1.bias": None, "bn.num_batches_tracked": None}), EXPECTED
    ).raise_for_problems()


def test_problems_are_listed():
    changes = {"W.weight": torch.zeros(2, 5), "ln_after.bias": None, "surprise.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        account("GWT.pth", state(**changes), EXPECTED).raise_for_problems()
    message = str(caught.value)
    assert "GWT.pth does not fit" in message
    assert "1 missing: ln_after.bias" in message
    assert "1 unexpected: surprise.weight" in message
    assert "1 of the wrong shape: W.weight [2, 5] instead of [2, 2]" in message


def test_long_lists_are_cut():
    with pytest.raises(CheckpointError, match="20 missing: .* and 12 more"):
        account("x", {}, {f"key{index}": [1] for index in range(20)}).raise_for_problems()


def test_clip_files_may_hold_more():
    """Of CLIP only the image tower is looked at; plain state_dicts come with extras."""
    held = {"visual.a": torch.zeros(1), "input_resolution": torch.tensor(224), "ln_final.bias": torch.zeros(2)}
    report = account("RN50.pt", held, {"visual.a": [1], "ln_final.bias": [2]}, clip=True)
    report.raise_for_problems()
    assert report.used == ["visual.a"]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A checkpoint directory of a network with two tensors."""
    monkeypatch.setattr(
        loader, "manifest", lambda architecture: {"GWT": {"W.weight": [2, 2]}, "CLIP_RN50": {"visual.a": [1]}}
    )
    (tmp_path / "clip").mkdir()
    (tmp_path / "VI_weights").mkdir()
    torch.save({"model": {"W.weight": torch.ones(2, 2)}}, tmp_path / "GWT.pth")
    torch.save({"visual.a": torch.ones(1, dtype=torch.float16)}, tmp_path / "clip" / "RN50.pt")
    return tmp_path


def test_plain_files(tiny):
    checkpoint = load_checkpoint(tiny)
    assert checkpoint.identity.weights.startswith("sha256:")
    assert not checkpoint.identity.synthetic
    assert {key: tensor.dtype for key, tensor in checkpoint.tensors.items()} == {
        "W.weight": torch.float32,
        "visual.a": torch.float32,
    }


def test_synthetic_files_are_known(tiny):
    torch.save({"model": {"W.weight": torch.ones(2, 2)}, "synthetic": {"seed": 5}}, tiny / "GWT.pth")
    assert load_checkpoint(tiny).identity.weights.startswith("synthetic seed 5")


def test_an_architecture_is_known_by_its_mark(tmp_path):
    """What a tiny checkpoint holds fits the tiny network, key for key, and no other."""
    write_checkpoints(3, tmp_path, TINY)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.identity.synthetic
    assert checkpoint.identity.weights.startswith("synthetic seed 3, tiny (sha256:")
    assert CocoER.from_checkpoint(checkpoint).vi_head.ffn[1].weight.shape == (TINY.vi_hidden, TINY.embedding)
    content = torch.load(tmp_path / "GWT.pth")
    del content["synthetic"]["architecture"]
    torch.save(content, tmp_path / "GWT.pth")
    with pytest.raises(CheckpointError, match="of the wrong shape: head_proj.weight"):
        load_checkpoint(tmp_path)


def test_the_network_reads_what_the_manifest_says():
    """Of the release's keys, all but those known to be unused; shapes too."""
    listed = manifest()
    read = network_keys(RELEASE)
    assert read["GWT"] == {key: shape for key, shape in listed["GWT"].items() if not key.startswith(UNUSED_GWT)}
    image_tower = {key: shape for key, shape in listed["CLIP_RN50"].items() if key.startswith(CLIP_PREFIX)}
    assert read["CLIP_RN50"] == image_tower


def test_absent_file_is_named(tiny):
    (tiny / "clip" / "RN50.pt").unlink()
    with pytest.raises(CheckpointError, match=r"clip/RN50\.pt not found; .*README\.md"):
        load_checkpoint(tiny)


def trained():
    """What training scripts store beside the weights, by name."""
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    return {
        "optimizer": optimizer,
        "optimizer's state": optimizer.state_dict(),
        "schedule": schedule,
        "schedule's state": schedule.state_dict(),
        "args": Namespace(lr=0.1, out=Path("runs"), started=datetime(2025, 6, 1, tzinfo=timezone.utc)),
        "numbers": [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True), np.dtype("float32")],
        "arrays": [np.arange(3), np.array(["a"]), np.array([None, "a"], dtype=object)],
        "containers": [defaultdict(list, a=[1]), deque([1]), OrderedDict(a=1), Counter("ab"), {1}, frozenset((1,))],
        "random state": np.random.default_rng(0).bit_generator.state,
        "version": torch.__version__,
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("held", trained())
def test_what_training_scripts_store_needs_no_trust(held, zipped, tmp_path):
    path = tmp_path / "GWT.pth"
    content = {"model": {"w": torch.arange(3.0)}, held: trained()[held], "iter": 7}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    loaded = read_pickle(path, trust=False)
    assert state_dict_of(path, loaded)["w"].tolist() == [0, 1, 2]
    assert loaded["iter"] == 7


class Hostile:
    """A pickle of it calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(target):
    """Name that the refusal has to say -> an object that makes ``target``, wherever it is loaded without care."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    optimizer.state["x"] = Hostile(exec, f"import os; os.mkdir({str(target)!r})")
    return {
        "posix.system": Hostile(os.system, f"touch {target}"),
        "builtins.eval": Hostile(eval, f"__import__('os').mkdir({str(target)!r})"),
        "builtins.exec": optimizer,
        "posix.mkdir": [Namespace(a=Hostile(os.mkdir, str(target)))],
        "functools.partial": Hostile(partial(os.system, f"touch {target}")),
        "builtins.getattr": Hostile(target.touch),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", attacks(Path("x")))
def test_hostile_pickles_run_nothing(name, zipped, tmp_path):
    path, target = tmp_path / "GWT.pth", tmp_path / "made"
    content = {"model": {"w": torch.zeros(1)}, "more": attacks(target)[name]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as refused:
        read_pickle(path, trust=False)
    assert f"{path} holds more than tensors: " in str(refused.value)
    assert name in str(refused.value)
    assert "--trust-checkpoint" in str(refused.value)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists()  # so it does without care


def test_stand_ins_take_a_hostile_state(tmp_path):
    """A class that is allowed by name is not looked at, and neither is what it is told."""
    path = tmp_path / "GWT.pth"
    state = pickle.dumps({"__class__": 1, "__dict__": {"__reduce__": 2}, "__setstate__": 3}, protocol=2)[2:-1]
    made = b"\x80\x02ctorch.optim.x\nsystem\n)\x81" + state + b"b."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", made)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    with pytest.raises(CheckpointError, match="holds a Inert, not a dictionary of tensors"):
        read_pickle(path, trust=False)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pickle_protocols(protocol, zipped, tmp_path, recwarn):
    """PyTorch's safe loader reads 2 and 3; the others are refused by their number, and load with trust."""
    path = tmp_path / "GWT.pth"
    content = {"model": {"w": torch.ones(1)}, "args": Namespace(a=1)}
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    if protocol > 3:
        with pytest.raises(CheckpointError, match=rf"GWT\.pth is written in pickle protocol {protocol}.*--trust-check"):
            read_pickle(path, trust=False)
    assert state_dict_of(path, read_pickle(path, trust=protocol > 3))["w"].tolist() == [1]
    assert not recwarn.list


def test_bytes_in_protocol_3(tmp_path):
    """They have an instruction of their own there, which PyTorch's safe loader does not know; trust does."""
    path = tmp_path / "GWT.pth"
    torch.save({"model": {"w": torch.ones(1)}, "iter": np.float64(3)}, path, pickle_protocol=3)
    with pytest.raises(CheckpointError, match=r"GWT\.pth is written in pickle protocol 3, which.*--trust-checkpoint"):
        read_pickle(path, trust=False)
    assert state_dict_of(path, read_pickle(path, trust=True))["w"].tolist() == [1]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_refusal_names_what_is_held_whatever_the_protocol(protocol, tmp_path):
    path, target = tmp_path / "GWT.pth", tmp_path / "made"
    content = {"args": Namespace(a=1), "more": [Hostile(os.mkdir, str(target)), Hostile(os.mkdir, str(target))]}
    torch.save({"model": {"w": torch.zeros(1)}, **content}, path, pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=r"GWT\.pth (holds more than tensors: posix\.mkdir\.|.* posix\.mkdir\))"):
        read_pickle(path, trust=False)
    assert not target.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("device", ["cuda:1", "mps"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_another_device(device, dtype, zipped, tmp_path, monkeypatch):
    path = tmp_path / "GWT.pth"
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: device)
    torch.save({"model": {"w": torch.full((2,), 0.5, dtype=dtype)}}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RuntimeError):
        torch.load(path)
    loaded = state_dict_of(path, read_pickle(path, trust=False))["w"]
    assert (loaded.device.type, loaded.dtype, loaded.tolist()) == ("cpu", dtype, [0.5, 0.5])


def test_whole_models(tmp_path):
    """Their code is needed, so they need consent; then they are as good as their state_dict."""
    path, layer = tmp_path / "GWT.pth", nn.Linear(1, 1)
    for content in (nn.DataParallel(layer), {"model": layer}):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=r"holds more than tensors: torch\.nn\.modules\.linear\.Linear"):
            read_pickle(path, trust=False)
        assert set(state_dict_of(path, read_pickle(path, trust=True))) == {"weight", "bias"}


def test_a_class_that_is_not_here(tmp_path):
    """Trust alone does not load it."""
    path = tmp_path / "GWT.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02ctheir.training\nConfig\nq\x00)\x81q\x01.")
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    with pytest.raises(CheckpointError, match=r"GWT\.pth holds more than tensors: their\.training\.Config\."):
        read_pickle(path, trust=False)
    with pytest.raises(CheckpointError, match=r"needs code that is not installed here \(No module named 'their'\)"):
        read_pickle(path, trust=True)


@pytest.mark.parametrize("name", ["model", "state_dict", "model_state_dict", "net", None])
def test_where_the_weights_are(name, tmp_path):
    state = {"module._orig_mod.w": torch.ones(1)}
    content = {"epoch": 3, "optimizer": {"x": torch.zeros(1)}, name: state} if name else state
    assert state_dict_of(tmp_path, content)["w"].tolist() == [1]


def test_the_release_s_name_counts_first(tmp_path):
    content = {"net": {"w": torch.zeros(1)}, "model": {"w": torch.ones(1)}}
    assert state_dict_of(tmp_path, content)["w"].tolist() == [1]
    assert state_dict_of(tmp_path, {**content, "model": "resnet50"})["w"].tolist() == [0]


def test_no_tensors_says_what_there_is(tmp_path):
    with pytest.raises(CheckpointError, match="holds no tensors.*; its entries are epoch, ema"):
        state_dict_of(tmp_path / "GWT.pth", {"epoch": 3, "ema": {"w": torch.ones(1)}})


def test_clip_s_image_tower_alone(tiny, monkeypatch):
    key = "attnpool.positional_embedding"
    expected = {"GWT": {"W.weight": [2, 2]}, "CLIP_RN50": {f"visual.{key}": [1], "ln_final.bias": [1]}}
    monkeypatch.setattr(loader, "manifest", lambda architecture: expected)
    torch.save(OrderedDict({key: torch.full((1,), 0.5, dtype=torch.float16)}), tiny / "clip" / "RN50.pt")
    loaded = load_checkpoint(tiny).tensors[f"visual.{key}"]
    assert (loaded.dtype, loaded.item()) == (torch.float32, 0.5)


def whole_file(zipped):
    stream = io.BytesIO()
    torch.save({"model": {"w": torch.zeros(1000)}}, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def test_examples_of_files():
    assert doctest.testmod(files).failed == 0


DAMAGES = {
    "empty": (b"", "is empty; download it again"),
    "web page": (b"\n<!DOCTYPE html><html>Quota exceeded", r"is a web page \(HTML or XML\), so its download failed"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a Git LFS pointer.*git lfs pull"),
    "text": (b"Not Found", "can't be read .* Download it again"),
    "zeros": (bytes(1000), "can't be read .* Download it again"),
    "half a zip": (whole_file(True)[:2000], "is cut off: its end is missing; download it again"),
    "half a legacy file": (whole_file(False)[:2000], "can't be read .* Download it again"),
    "its first bytes": (whole_file(False)[:100], "can't be read .* Download it again"),
}


@pytest.mark.parametrize("file", ["GWT.pth", "clip/RN50.pt"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_told_by_the_command(tiny, damage, file, capsys):
    """One sentence that names the file, and no traceback; trust makes no difference."""
    content, told = DAMAGES[damage]
    (tiny / file).write_bytes(content)
    for trust in ([], ["--trust-checkpoint"]):
        command = ["--checkpoints", str(tiny), "--repository", str(tiny / "repository"), "--detectors", "opencv"]
        assert build_engines.main([*command, *trust]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert re.match(f"error: {re.escape(str(tiny / file))} {told}", error)


def test_a_directory_in_a_file_s_place(tiny, capsys):
    (tiny / "GWT.pth").unlink()
    (tiny / "GWT.pth").mkdir()
    command = ["--checkpoints", str(tiny), "--repository", str(tiny / "repository"), "--detectors", "opencv"]
    assert build_engines.main(command) == 2
    assert f"error: {tiny}/GWT.pth is a directory, not a file" in capsys.readouterr().err


def test_a_file_that_may_not_be_read(tiny, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # tests may run as root, who reads everything
    with pytest.raises(CheckpointError, match=r"GWT\.pth can't be read \(permission denied\); .*chmod u\+r"):
        load_checkpoint(tiny)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_program_as_the_network(tiny):
    torch.jit.trace(Archive(), torch.zeros(1)).save(tiny / "GWT.pth")
    with pytest.raises(CheckpointError, match=r"GWT\.pth is a TorchScript archive \(a program\), not a dictionary"):
        load_checkpoint(tiny)


@pytest.mark.parametrize("content", [{"model": {}}, {"epoch": 3}, [torch.zeros(1)]])
def test_no_tensors(tiny, content):
    torch.save(content, tiny / "GWT.pth")
    with pytest.raises(CheckpointError, match=r"GWT\.pth holds"):
        load_checkpoint(tiny)


def test_data_parallel_prefix(tiny):
    torch.save({"model": {"module.W.weight": torch.ones(2, 2)}}, tiny / "GWT.pth")
    assert "W.weight" in load_checkpoint(tiny).tensors


class Archive(nn.Module):
    """The shape of OpenAI's archive: a program with fp16 weights below ``visual``."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Module()
        self.visual.a = nn.Parameter(torch.full((1,), 0.5, dtype=torch.float16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.visual.a


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_needs_the_public_hash_or_consent(tiny, monkeypatch):
    path = tiny / "clip" / "RN50.pt"
    torch.jit.trace(Archive(), torch.zeros(1)).save(path)
    assert is_torchscript(path)
    assert not is_torchscript(tiny / "GWT.pth")
    with pytest.raises(CheckpointError, match="TorchScript archive .* SHA-256 .*--trust-checkpoint"):
        load_checkpoint(tiny)
    assert load_checkpoint(tiny, trust=True).tensors["visual.a"].tolist() == [0.5]
    monkeypatch.setattr(reading, "CLIP_SHA256", reading.file_sha256(path))
    assert load_checkpoint(tiny).tensors["visual.a"].dtype == torch.float32


def test_differing_alignment_is_told(tiny, caplog):
    torch.save({"model": {"W.weight": torch.zeros(2, 2)}}, tiny / "VI_weights" / "w.pth")
    with caplog.at_level(logging.WARNING):
        checkpoint = load_checkpoint(tiny)
    assert "w.pth differs from W.weight" in caplog.text
    assert checkpoint.tensors["W.weight"].tolist() == [[1, 1], [1, 1]]
