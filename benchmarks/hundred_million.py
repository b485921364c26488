"""What a job of a hundred million rows takes, on paper: dollars, hours, connections, files, and what breaks first.

    uv run python benchmarks/hundred_million.py [--rows 100000000] [--calls 4] [--block 200] [--limit 20000]

Nothing is called. Each figure is a product of the arguments and of the constants below, which name their source.
"""

from __future__ import annotations

import argparse

TOKENS_IN, TOKENS_OUT = 1200, 250
"""A call's tokens, on average over proposers and aggregator: prompts of 300 tokens, three proposals of 250."""

DOLLARS_IN, DOLLARS_OUT = 0.10, 0.30
"""US dollars per million tokens of a small open model at a host; half of it by vendors' batch APIs."""

SECONDS = 4.0
"""A call's mean time."""

CPU_PER_ROW = 0.0025
"""Seconds of a worker's CPU for a row of four calls: benchmarks/batch.py measures it."""

ID_BYTES = 40
"""A place such as ``part-00012.jsonl:123456`` in the sorted array that Ray loads before it continues a job:
https://docs.ray.io/en/latest/data/checkpointing.html"""

ANSWER_BYTES = 1400
PUT_DOLLARS = 5e-6
"""US dollars for writing an object: https://aws.amazon.com/s3/pricing/"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--calls", type=int, default=4)
    parser.add_argument("--block", type=int, default=200)
    parser.add_argument("--limit", type=int, default=20_000, help="calls at a time that the endpoints take together")
    given = parser.parse_args()
    calls = given.rows * given.calls
    tokens_in, tokens_out = calls * TOKENS_IN, calls * TOKENS_OUT
    dollars = (tokens_in * DOLLARS_IN + tokens_out * DOLLARS_OUT) / 1e6
    hours = calls * SECONDS / given.limit / 3600
    workers = max(1, round(given.rows * CPU_PER_ROW / (hours * 3600) / 0.7))
    files = given.rows // given.block
    rows = [
        ("calls", f"{calls:,}"),
        ("tokens", f"{tokens_in / 1e9:,.0f} billion in, {tokens_out / 1e9:,.0f} billion out"),
        ("tokens a minute", f"{(tokens_in + tokens_out) / hours / 60 / 1e6:,.0f} million"),
        ("dollars", f"{dollars:,.0f}; {dollars / 2:,.0f} at half price"),
        ("hours", f"{hours:,.1f} with {given.limit:,} calls at a time"),
        ("connections", f"{given.limit:,} in all, {given.limit // workers:,} a worker"),
        ("workers", f"{workers:,} at 0.7 of a CPU each"),
        ("part files", f"{files:,}, and as many checkpoint files: {2 * files * PUT_DOLLARS:,.0f} dollars to write"),
        ("answers", f"{given.rows * ANSWER_BYTES / 1e9:,.0f} GB"),
        (
            "memory to continue",
            f"{given.rows * ID_BYTES / 1e9:,.1f} GB for the places, in the driver and in each filter",
        ),
        ("paid again at a kill", f"at most {workers * (4 + given.limit // workers):,} rows that were in flight"),
    ]
    print("| | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
