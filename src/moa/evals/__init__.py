"""Benchmarks and the paper's analyses, for any model and any mixture.

Rooms, each of which imports only the ones before it::

    asking       where a benchmark's files come from; models called within limits, every reply kept on disk
    drawing      what a report is drawn with: a page of HTML, plots
    benchmarks   AlpacaEval 2.0, MT-Bench, FLASK: one file each, to be read beside its source
    reading      finished runs: read, compared, priced, reported
    paper        what the paper analyses in section 3.3

No data and no judge's prompt of a benchmark is part of this project.
"""
