"""What all rooms stand on: errors, files, memory, ranks."""
