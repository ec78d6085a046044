"""Basics that every other room uses: errors, files, the process, ranks."""
