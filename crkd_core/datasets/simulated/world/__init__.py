"""What there is in a simulated scene: the script, its traffic and its surroundings."""
