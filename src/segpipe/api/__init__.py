"""What `import segpipe` offers: models, data sets and scores for programs and notebooks.

The names are listed in `segpipe.__all__` and described in docs/python.md; they are stable, and the modules below are
not. It computes nothing itself: each function is the same code as a command or a stage.
"""
