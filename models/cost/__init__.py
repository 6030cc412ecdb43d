"""Parameters and multiply-accumulates of a network: by formula, counted, and as published."""
