"""The layers, with their formulas."""
