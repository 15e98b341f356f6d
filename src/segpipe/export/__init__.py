"""Trained networks as files that need none of our code: ONNX and torch programs, proven to predict as the network does.

make        loads a network, writes its export and compares the two; nothing is left of an export that differs
graph       what is exported: from uint8 images to masks, with normalisation, scales, mirroring and arg-max
program     captures the graph with dynamic batch, height and width; writes it as a torch program
onnx        writes it as an ONNX file with its metadata
exported    loads an ONNX export, and predicts by it
parity      compares an export with the network
document    the type of `export.json`
"""
