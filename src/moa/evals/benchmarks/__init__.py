"""The benchmarks, one file (or package) each, written to be read beside its source."""
