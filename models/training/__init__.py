"""Training, export and evaluation of encoders. Only here and in networks is torch imported."""
