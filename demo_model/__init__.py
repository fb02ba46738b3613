"""How the demo model is made: synthetic data, training, evaluation."""
