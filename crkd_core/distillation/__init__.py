"""The four losses, the objective that sums them, and the teacher targets they compare with."""
