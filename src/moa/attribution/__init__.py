"""What an answer resembles: each of its sentences beside the passages of the proposals."""

from moa.attribution.shares import Attribution, attribution_of

__all__ = ["Attribution", "attribution_of"]
