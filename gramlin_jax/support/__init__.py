"""What the rest stands on: checks of input, precision, files, devices."""
