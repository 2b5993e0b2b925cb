"""From files and objects to batches of inputs."""
