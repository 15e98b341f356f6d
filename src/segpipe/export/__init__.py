"""Trained networks as files that need none of our code: ONNX, OpenVINO, torch programs, proven to predict as they do.

make           loads a network, writes its export and compares the two; nothing is left of an export that differs
graph          what is exported: from uint8 images to masks, with normalisation, scales, mirroring and arg-max
program        captures the graph with dynamic batch, height and width; writes it as a torch program
onnx_file      writes it as an ONNX file with its metadata
layers         which operations of an ONNX graph are computed with 8 bits
quantize       makes an ONNX file compute with 8 bits, and leaves in float the layers that do not bear it
triton         describes an ONNX export for a Triton server
openvino_file  writes an ONNX file in OpenVINO's form, and predicts by OpenVINO
exported       loads an export of ONNX or OpenVINO, and predicts by it
in_torch       predicts by the network in torch
parity         compares an export with the network
packages       which packages a format needs
document       the type of `export.json`
"""
