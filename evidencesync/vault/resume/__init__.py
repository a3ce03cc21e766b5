"""What unfinished sessions left in staging, and how the next session continues from it."""
