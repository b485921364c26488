"""Benchmarks and the paper's analyses, for any model and any mixture.

Each imports only those above it::

    metric         a score, its name, its standard error
    asking/        a benchmark's files; calls of models within limits, with every reply on disk
    tasks/         questions of a user's file, and the checks of replies to them
    drawing/       a page of HTML, plots, the sections of a report
    benchmark      what a benchmark is: one object
    benchmarks/    AlpacaEval 2.0, MT-Bench, FLASK; each is read beside its source
    definition     what distinguishes a system from another one
    measuring      a system measured on a benchmark
    forecast       what a measurement will take
    reading/       finished measurements: read, compared, priced, reported
    series         a system measured several times, or by several judges
    paper/         the analyses of section 3.3

No data and no judge's prompt of a benchmark is part of this project.
"""
