"""Random faults under load, and a checker that judges what clients saw of them."""
