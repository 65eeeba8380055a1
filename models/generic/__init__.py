"""Networks of others that come as ONNX files with a description: one image in, features out."""
