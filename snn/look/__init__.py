"""Looking into networks and runs: records, health, pictures, pages."""
