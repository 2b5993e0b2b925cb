"""Reading what other software wrote; the only place where foreign checkpoints are opened."""
