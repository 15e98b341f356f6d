"""The tables that `evaluate` writes: one file for each, with a function `tabulate`.

    tabulate(measured) -> DataFrame

`build/evaluation/tables/NAME.parquet` holds the rows of all splits; its first column is `split`.
"""
