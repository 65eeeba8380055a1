"""The encoders: a folder each, with its network (torch), objective (torch) and adapter (NumPy)."""
