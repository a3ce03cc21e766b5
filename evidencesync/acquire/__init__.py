"""The examiner's end: reads a source, sends what a vault lacks, and signs what was read. Also adds to custody chains."""
