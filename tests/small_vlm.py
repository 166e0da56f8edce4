"""A real vision-language model, however small and untrained, behind a real server with OpenAI's interface.

LLaVA's architecture (a vision transformer, a projection, a language model) with random weights and a vocabulary of
bytes, served by ``transformers serve``. It reads whatever is sent, looks at the images, and answers with nonsense. It
stops by itself after a few tokens, for its generation's settings make the end ever more probable.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.metadata
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from serving.background import Background
from serving.server import free_ports
from tests.conftest import CACHE, run_python
from tests.waiting import PATIENCE

SIDE, PATCH = 32, 8
"""Of the images as the model sees them, pixels."""
IMAGE_TOKENS = (SIDE // PATCH) ** 2
IMAGE, PADDING, BEGIN, END = "<image>", "<pad>", "<s>", "</s>"
TALKS = (8, 2.0)
"""Tokens that it says before it may end, and by how much the end is more probable with each one after."""
TEMPLATE = """\
{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}\
{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '\\n' }}{% endfor %}"""
READY = "assistant: "
"""After the template: what it is to go on from."""


def tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many tokens the model is given: one for each byte of text, ``IMAGE_TOKENS`` for each image.

    >>> tokens([{"role": "user", "content": "é"}]) == len("user: ") + 2 + len("\\n") + len("assistant: ")
    True
    """
    text, images = "", 0
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        images += sum(part["type"] == "image_url" for part in parts)
        text += f"{message['role']}: {''.join(part.get('text', '') for part in parts)}\n"
    return len((text + READY).encode()) + IMAGE_TOKENS * images


def small_vlm() -> Path:
    """The model's directory, made once for each version of this file and of transformers."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + importlib.metadata.version("transformers").encode())
    target = CACHE / f"small-vlm-{digest.hexdigest()[:12]}"
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=CACHE))
        made = run_python("-m", "tests.small_vlm", part, HF_HUB_OFFLINE="1")
        assert made.returncode == 0, made.stderr
        with contextlib.suppress(OSError):  # another process of the tests has made it meanwhile
            part.rename(target)
        shutil.rmtree(part, ignore_errors=True)
    return target


class TransformersServe(Background):
    """``transformers serve`` with one model, at a free port of this machine.

    Args:
        model: its directory, which is its name too.
        log: file for the output.
    """

    name: ClassVar[str] = "transformers serve"
    exit_timeout: ClassVar[float] = PATIENCE

    def __init__(self, model: Path, log: Path) -> None:
        (port,) = free_ports(1)
        self.url, self.model = f"http://127.0.0.1:{port}", str(model)
        self.base_url = f"{self.url}/v1"
        command = [str(Path(sys.executable).with_name("transformers")), "serve", self.model, "--device", "cpu"]
        options = ["--host", "127.0.0.1", "--port", str(port), "--no-continuous-batching", "--log-level", "info"]
        # Whatever it would fetch fails at once instead of after a wait for the network.
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(log.parent / "huggingface")}
        super().__init__([*command, *options], log, PATIENCE, offline, own_session=True)

    def is_ready(self) -> bool:
        """Whether it answers, which it does once the model is loaded."""
        health = f"{self.url}/health"
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(health, timeout=5) as answer,
        ):
            return bool(answer.status == 200)
        return False


def make(directory: Path) -> None:
    """Write the model, its tokenizer and what prepares its images."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    names = [PADDING, BEGIN, END, IMAGE, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {name: number for number, name in enumerate(names)}
    bytes_alone = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone,
        pad_token=PADDING,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=[IMAGE],
    )
    size = {"height": SIDE, "width": SIDE}
    LlavaProcessor(
        LlavaImageProcessorPil(size=size, crop_size=size, do_center_crop=False),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",  # without the class token,
        num_additional_image_tokens=1,  # which is this one
        chat_template=TEMPLATE + READY,
        image_token=IMAGE,
    ).save_pretrained(directory)
    layers: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    }  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(vocabulary),
        num_key_value_heads=2,
        max_position_embeddings=1 << 14,
        initializer_range=0.3,  # wide enough for what comes in to show in what comes out
        pad_token_id=vocabulary[PADDING],
        bos_token_id=vocabulary[BEGIN],
        eos_token_id=vocabulary[END],
        **layers,
    )
    sight = CLIPVisionConfig(image_size=SIDE, patch_size=PATCH, projection_dim=32, **layers)
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=sight,
            text_config=text,
            image_token_index=vocabulary[IMAGE],
            vision_feature_layer=-1,
            image_seq_length=IMAGE_TOKENS,
        )
    )
    model.generation_config.eos_token_id = vocabulary[END]
    model.generation_config.pad_token_id = vocabulary[PADDING]
    model.generation_config.min_new_tokens = TALKS[0]
    model.generation_config.exponential_decay_length_penalty = TALKS
    model.save_pretrained(directory)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
