"""Naive twins: what the product does, written once more in the plainest way."""
