"""A tiny encoder made by a script: real ONNX, real tokenizer, vectors like a bag of words."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save_model
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from pgembed.model import Pooling

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
FREQUENT = (
    "a an and are as at be been but by can could did do does for from had has have he her his how"
    " i if in into is it its may more most no not of on one or our she so such than that the"
    " their them then there these they this to us was we were what when where which who whose why"
    " will with would you your"
)
ENDINGS = ("s", "g", "d", "in", "ed", "er", "es", "ly", "on", "ti", "al", "en")
PUNCTUATION = tuple("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"
LETTERS, DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"

POOLING_MODES = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
}


def make_tiny_encoder(
    directory: Path,
    *,
    dimensions: int = 32,
    seed: int = 0,
    pooling: Pooling = "mean",
    max_tokens: int = 128,
    prompts: dict[str, str] | None = None,
    token_type_ids: bool = False,
) -> Path:
    """Write a model directory that ``open_encoder`` reads; the same arguments, the same bytes.

    Words are cut into syllables, so no word is unknown, and each syllable has a random vector
    whose length grows with how telling it is. A text's vector is their mean under every pooling:
    texts that share words are similar, word order does not count.

    Args:
        directory: Made when it does not exist.
        dimensions: Length of a vector.
        seed: Of the random vectors: another seed, another vector space.
        pooling: ``graph`` puts the mean into the graph; the others read token states.
        max_tokens: Longest input in tokens.
        prompts: Written as sentence-transformers' prompts, such as ``{"query": "query: "}``.
        token_type_ids: Whether the graph wants them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lengths = vocabulary()
    table = np.random.default_rng(seed).standard_normal((len(lengths), dimensions))
    table *= np.array(list(lengths.values()))[:, None]
    save_model(model(table.astype(np.float32), pooling, token_type_ids), directory / "model.onnx")
    tokenizer(list(lengths)).save(str(directory / "tokenizer.json"))
    for name, content in configuration(pooling, max_tokens, prompts or {}).items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return directory


def vocabulary() -> dict[str, float]:
    """Each token and the length of its vector: long for what tells texts apart."""
    lengths = dict.fromkeys(SPECIAL, 0.02) | {"[UNK]": 0.5}
    pieces = dict.fromkeys(LETTERS + DIGITS, 0.3)
    pieces |= {first + second: 0.7 for first, second in product(LETTERS, LETTERS)}
    pieces |= {first + second: 0.9 for first, second in product(DIGITS, DIGITS)}
    pieces |= {"".join(part): 1.0 for part in product(CONSONANTS, VOWELS, CONSONANTS)}
    lengths |= pieces | {f"##{piece}": length for piece, length in pieces.items()}
    lengths |= {f"##{piece}": 0.1 for piece in ENDINGS}
    return lengths | dict.fromkeys([*FREQUENT.split(), *PUNCTUATION], 0.05)


def tokenizer(tokens: list[str]) -> Tokenizer:
    """A WordPiece tokenizer that, like many shipped ones, pads and truncates by itself."""
    ids = {token: number for number, token in enumerate(tokens)}
    made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(
        ("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"])
    )
    made.enable_truncation(16)
    made.enable_padding(length=16, pad_id=ids["[PAD]"], pad_token="[PAD]")
    return made


def model(table: NDArray[np.float32], pooling: Pooling, token_type_ids: bool) -> Any:
    """Token states are a token's own vector plus the mean over the text's real tokens."""
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_type_ids else [])]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "t"]) for n in names]
    kinds = np.stack([np.zeros(table.shape[1]), np.ones(table.shape[1])]).astype(np.float32)
    tensors = {"table": table, "kinds": kinds, "one": np.array([1]), "two": np.array([2])}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Unsqueeze", ["attention_mask", "two"], ["column"]),
        helper.make_node("Cast", ["column"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["words", "mask"], ["real"]),
        helper.make_node("ReduceSum", ["real", "one"], ["total"]),
        helper.make_node("ReduceSum", ["mask", "one"], ["count"]),
        helper.make_node("Div", ["total", "count"], ["average"]),
    ]
    if token_type_ids:
        nodes.append(helper.make_node("Gather", ["kinds", "token_type_ids"], ["kind"]))
        nodes.append(helper.make_node("Add", ["average", "kind"], ["context"]))
    else:
        nodes.append(helper.make_node("Identity", ["average"], ["context"]))
    if pooling == "graph":
        output, shape = "sentence_embedding", ["n", table.shape[1]]
        nodes.append(helper.make_node("Squeeze", ["average", "one"], [output]))
    else:
        output, shape = "last_hidden_state", ["n", "t", table.shape[1]]
        nodes.append(helper.make_node("Add", ["words", "context"], [output]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def configuration(
    pooling: Pooling, max_tokens: int, prompts: dict[str, str]
) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
    """The configuration files of sentence-transformers' layout."""
    files: dict[str, dict[str, Any] | list[dict[str, Any]]] = {
        "config.json": {"max_position_embeddings": 4096},
        "tokenizer_config.json": {"model_max_length": 1e30},
        "sentence_bert_config.json": {"max_seq_length": max_tokens},
        "config_sentence_transformers.json": {"prompts": prompts, "default_prompt_name": None},
    }
    if pooling == "graph":
        return files
    return files | {
        "modules.json": [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
        "1_Pooling/config.json": {
            mode: mode == POOLING_MODES[pooling] for mode in POOLING_MODES.values()
        },
    }
