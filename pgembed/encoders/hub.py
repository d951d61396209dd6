"""Fetch a model from the Hugging Face hub: the ONNX graph, its tokenizer and configuration."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from pgembed.errors import EncoderError

SCHEME = "hf:"

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

_FILES = (
    "model.onnx*",
    "onnx/model.onnx*",
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "*_Pooling/config.json",
)
"""What an encoder reads; ``model.onnx*`` takes the files of external tensors along."""


@cache
def folder(source: str) -> Path:
    """Fetch ``hf:owner/name``, or find it in the hub's own cache; once in a process.

    Raises:
        EncoderError: The name is no repository, huggingface_hub is not installed, or the
            repository cannot be fetched.
    """
    repository = source.removeprefix(SCHEME)
    if not _REPOSITORY.fullmatch(repository):
        raise EncoderError(f"{source!r} names no repository", hint="write hf:owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise EncoderError(
            f"{source} needs the package huggingface-hub",
            hint="pip install 'pgembed-router[hub]'",
        ) from error
    try:
        return Path(snapshot_download(repository, allow_patterns=list(_FILES)))
    except Exception as error:  # the hub's client, its transport and the system raise their own
        raise EncoderError(
            f"{source} cannot be fetched: {error}",
            hint="check the name and the network, or pass a directory that holds the model",
        ) from error
