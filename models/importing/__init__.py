"""Encoders from elsewhere: official checkpoints, and any ONNX model with a description."""
