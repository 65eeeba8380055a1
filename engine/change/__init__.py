"""Change between two dates, or in a series: change vectors, classes that differ, breaks."""
