"""Documents that must stand in court: pure values and codecs, no files, no clock."""
