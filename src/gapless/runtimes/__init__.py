"""Hands: what starts, signals and looks at programs. One module a runtime; none imports another."""
