"""From labels to maps: samples, features, classifiers, honest figures. Start at `training.py`."""
