"""What differs: between two acquisitions of an item, and between a folder and a manifest."""
