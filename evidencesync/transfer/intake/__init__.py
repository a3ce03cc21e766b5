"""What a vault does with what arrives: contents assembled, pages turned into files, and the end of it published."""
