"""Predicting what people have: folders, lists and videos become masks, pictures and a table; `segpipe predict`."""
