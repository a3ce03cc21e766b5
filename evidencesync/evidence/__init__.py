"""The nouns of the trade: frozen values, checked when they are made."""
