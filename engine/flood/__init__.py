"""Floods: water before and after by thresholds and by a learned detector, side by side."""
