"""The examiner's end: reads a source, sends what the vault lacks, signs what was read. Also adds records to custody chains."""
