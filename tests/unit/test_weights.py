"""Reading checkpoint files: what is accepted, what is refused, and what the refusal says."""

import logging

import pytest
import torch
from torch import nn

from cocoer.checkpoints import loader, reading
from cocoer.checkpoints.keys import CLIP_PREFIX, UNUSED_GWT, CheckpointError, account, manifest, network_keys
from cocoer.checkpoints.loader import load_checkpoint
from cocoer.checkpoints.reading import is_torchscript
from cocoer.checkpoints.synthetic import write_checkpoints
from cocoer.network.architecture import RELEASE, TINY
from cocoer.network.model import CocoER

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


def test_optimizer_object_needs_consent(tiny):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    torch.save({"model": {"W.weight": torch.ones(2, 2)}, "optimizer": optimizer, "iter": 7}, tiny / "GWT.pth")
    with pytest.raises(CheckpointError, match=r"GWT\.pth holds more than tensors.*--trust-checkpoint"):
        load_checkpoint(tiny)
    assert "W.weight" in load_checkpoint(tiny, trust=True).tensors


def test_damaged_file(tiny):
    whole = (tiny / "GWT.pth").read_bytes()
    (tiny / "GWT.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"GWT\.pth"):
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
