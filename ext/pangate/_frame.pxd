"""Walkers over framed protocols. See _frame.pyx."""
