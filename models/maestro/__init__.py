"""MAESTRO: a masked autoencoder over the sensors, dates and bands of a data set's layout."""
