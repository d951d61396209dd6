"""Encoders: texts to unit vectors with ONNX Runtime, from a wheel, a directory or the hub."""

from __future__ import annotations

from pgembed.encoders.encoder import Counted, Encoder
from pgembed.encoders.opening import open_encoder

__all__ = ["Counted", "Encoder", "open_encoder"]
